//! `mycedrive pki`.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::args::PkiCommand;
use super::output::{json, line, print};
use crate::error::Result;
use crate::pki::{self, CaRequest, CertificateInfo, NodeRequest};

/// Does what the command says.
pub fn run(command: PkiCommand) -> Result<()> {
    match command {
        PkiCommand::Ca {
            out,
            name,
            days,
            force,
        } => {
            let request = CaRequest {
                out,
                name,
                days,
                force,
            };
            wrote(&pki::make_ca(&request)?)?;
            line(&format!(
                "Keep {} secret and off the nodes. Next: mycedrive pki issue --ca {} --name NODE \
                 --address HOST_OR_IP --out DIR",
                request.out.join("ca.key").display(),
                request.out.display()
            ))
        }
        PkiCommand::Issue {
            ca,
            name,
            address,
            out,
            days,
            force,
        } => {
            let request = NodeRequest {
                ca,
                name,
                addresses: address,
                out,
                days,
                force,
            };
            wrote(&pki::issue(&request)?)?;
            line(&format!(
                "Next: copy the three files to /etc/mycedrive/pki on {}, owner root, node.key \
                 with mode 0600",
                request.name
            ))
        }
        PkiCommand::Show { dir, format } => {
            let all = pki::show(&dir)?;
            if format.json {
                json(&all)
            } else {
                print(&all.iter().map(text).collect::<String>())
            }
        }
    }
}

fn wrote(files: &[PathBuf]) -> Result<()> {
    files
        .iter()
        .try_for_each(|file| line(&format!("wrote {}", file.display())))
}

fn text(one: &CertificateInfo) -> String {
    let mut text = String::new();
    let kind = if one.ca { "CA" } else { "node" };
    let _ = writeln!(text, "{}", one.file.display());
    let _ = writeln!(text, "  {kind} {}, signed by {}", one.name, one.issuer);
    if !one.names.is_empty() {
        let _ = writeln!(text, "  for {}", one.names.join(", "));
    }
    let state = if one.valid_now {
        format!("{} days left", one.seconds_left / 86400)
    } else if one.seconds_left < 0 {
        "EXPIRED".to_owned()
    } else {
        "NOT YET VALID by this machine's clock".to_owned()
    };
    let _ = writeln!(
        text,
        "  valid {} to {}: {state}",
        one.not_before, one.not_after
    );
    if one.signed_by_ca == Some(false) {
        let _ = writeln!(text, "  NOT signed by the ca.crt beside it");
    }
    text
}

//! This node's keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::Check;
use crate::config::Config;
use crate::files;
use crate::peers::split_endpoint;
use crate::pki::{self, CertificateInfo};

/// Warn when fewer days are left.
const DAYS: i64 = 30;

/// All checks of keys.
pub fn checks(config: &Config) -> Vec<Check> {
    let dir = &config.pki_dir;
    let issue = format!(
        "mycedrive pki issue --ca CA_DIR --name {} --address HOST_OR_IP --out {}",
        config.node_name,
        dir.display()
    );
    let all = match pki::show(dir) {
        Ok(all) => all,
        Err(error) => return vec![Check::fail("certificate", error.to_string(), issue)],
    };
    let mut checks: Vec<Check> = all.iter().map(validity).collect();
    match all.iter().find(|one| !one.ca) {
        Some(node) => checks.extend([signed(node), names(config, node)]),
        None => checks.push(Check::fail(
            "certificate",
            format!("{} has no node.crt", dir.display()),
            issue,
        )),
    }
    checks.push(key_mode(config));
    checks
}

fn validity(one: &CertificateInfo) -> Check {
    let name = if one.ca { "CA" } else { "certificate" };
    let days = one.seconds_left / 86400;
    if one.valid_now && days >= DAYS {
        return Check::ok(name, format!("{}, {days} days left", one.name));
    }
    if one.valid_now {
        return Check::warn(
            name,
            format!("{}, {days} days left", one.name),
            "renew it: mycedrive pki issue --force; the daemon takes it without a restart",
        );
    }
    if one.seconds_left < 0 {
        return Check::fail(
            name,
            format!("{} expired on {}", one.name, one.not_after),
            "renew it: mycedrive pki issue --force (for a CA: `pki ca`, then all nodes)",
        );
    }
    Check::fail(
        name,
        format!("{} is valid only from {} on", one.name, one.not_before),
        "set this machine's clock",
    )
}

fn signed(node: &CertificateInfo) -> Check {
    if node.signed_by_ca == Some(true) {
        Check::ok("signature", format!("by {}", node.issuer))
    } else {
        Check::fail(
            "signature",
            "node.crt is not signed by the ca.crt beside it",
            "copy ca.crt, node.crt and node.key of one `mycedrive pki issue`",
        )
    }
}

fn names(config: &Config, node: &CertificateInfo) -> Check {
    if node.name != config.node_name {
        return Check::warn(
            "names",
            format!(
                "the certificate says {}, this node is {}",
                node.name, config.node_name
            ),
            "other nodes know this one by its certificate: set node_name, or issue a certificate \
             for that name",
        );
    }
    let host = split_endpoint(&config.advertise).map_or("", |(host, _)| host);
    if node
        .names
        .iter()
        .any(|name| name.eq_ignore_ascii_case(host))
    {
        Check::ok("names", node.names.join(", "))
    } else {
        Check::fail(
            "names",
            format!("{host} (advertise) is not among {}", node.names.join(", ")),
            "issue the certificate with --address for that host, or set advertise",
        )
    }
}

fn key_mode(config: &Config) -> Check {
    let key = config.pki_dir.join("node.key");
    match fs::metadata(&key) {
        Ok(metadata) if files::private_mode(metadata.permissions().mode()) => {
            Check::ok("key", format!("{} is private", key.display()))
        }
        Ok(metadata) => Check::fail(
            "key",
            format!(
                "{} has mode {:o}",
                key.display(),
                metadata.permissions().mode() & 0o7777
            ),
            format!("chmod 600 {}", key.display()),
        ),
        Err(error) => Check::fail(
            "key",
            format!("{}: {error}", key.display()),
            "mycedrive pki issue makes it",
        ),
    }
}

//! What is missing on a node, and what works without it.

use serde::Serialize;

use crate::containerd::{self, Distribution};
use crate::error::Result;
use crate::install::{BIN_DIR, DAEMON, SHIM};
use crate::record::{Manifest, Purpose};
use crate::root::{CONFIG_LIMIT, Root};
use crate::status;
use crate::versions::{Program, find, find_in, numbers};

/// The node daemon's configuration.
const NODE_CONFIG: &str = "/etc/mycedrive/config.toml";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something does not work, the rest does.
    Warning,
    /// MyceDrive does not work here.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What follows from it and what to do; empty if all is well.
    pub advice: String,
}

fn ok(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        level: Level::Ok,
        what,
        found: found.into(),
        advice: String::new(),
    }
}

fn bad(
    level: Level,
    what: &'static str,
    found: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding {
        level,
        what,
        found: found.into(),
        advice: advice.into(),
    }
}

/// Examines the tree; on the live node also the kernel.
pub fn examine(root: &Root) -> Result<Vec<Finding>> {
    let distributions = containerd::detect(root);
    let mut findings = programs(root)?;
    findings.extend(runtime(root, &distributions));
    findings.extend(engines(root));
    findings.push(keys(root));
    if root.is_live() {
        findings.extend(kernel(root)?);
    }
    Ok(findings)
}

fn programs(root: &Root) -> Result<Vec<Finding>> {
    let manifest = Manifest::load(root)?.unwrap_or_default();
    let recorded = |name: &str| {
        manifest
            .entries
            .iter()
            .filter(|entry| entry.purpose == Purpose::Program)
            .map(|entry| entry.path.clone())
            .find(|path| path.ends_with(&format!("/{name}")))
    };
    let look = |what, name: &str| {
        let path = recorded(name).unwrap_or_else(|| format!("{BIN_DIR}/{name}"));
        let mode = root.follow(&path).and_then(|path| root.attributes(&path));
        match mode {
            Ok(Some(found)) if root.is_file(&path) && found.mode & 0o111 != 0 => ok(what, path),
            Ok(Some(_)) => bad(
                Level::Error,
                what,
                format!("{path} is not an executable file"),
                "run `mycedrive-installer install`",
            ),
            _ => bad(
                Level::Error,
                what,
                format!("{path} is missing"),
                "run `mycedrive-installer install`",
            ),
        }
    };
    Ok(vec![look("shim", SHIM), look("daemon", DAEMON)])
}

fn runtime(root: &Root, distributions: &[Distribution]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if distributions.is_empty() {
        findings.push(bad(
            Level::Error,
            "containerd",
            "no containerd, k3s, RKE2 or k0s",
            "install containerd 1.7 or newer",
        ));
    }
    if distributions.contains(&Distribution::Containerd) {
        findings.push(containerd_version(find(
            root,
            "containerd",
            &[],
            &["containerd", "containerd.io"],
        )));
    }
    let handlers = status::handlers(root, distributions);
    findings.push(if handlers.is_empty() {
        bad(
            Level::Error,
            "handler",
            "containerd's configuration does not define `mycedrive`",
            "pods with runtimeClassName mycedrive cannot start; run `mycedrive-installer install`",
        )
    } else {
        ok("handler", handlers.join(", "))
    });
    let bundled = [
        "/var/lib/rancher/k3s/data/current/bin",
        "/var/lib/rancher/rke2/bin",
        "/var/lib/k0s/bin",
    ];
    findings.push(runc(find(root, "runc", &bundled, &["runc"])));
    findings
}

fn containerd_version(program: Option<Program>) -> Finding {
    let what = "containerd";
    let Some(Program { path, version }) = program else {
        return bad(
            Level::Error,
            what,
            "configured but not installed",
            "install containerd 1.7 or newer",
        );
    };
    let Some(version) = version else {
        return ok(what, format!("{path}, version unknown"));
    };
    let found = format!("{path} {version}");
    if numbers(&version) < vec![1, 7] {
        bad(
            Level::Warning,
            what,
            found,
            "older than 1.7: not tested; pods may run, upgrade before you migrate any",
        )
    } else {
        ok(what, found)
    }
}

fn runc(program: Option<Program>) -> Finding {
    let what = "runc";
    let Some(Program { path, version }) = program else {
        return bad(
            Level::Error,
            what,
            "not found",
            "install runc 1.2 or newer; no pod can run without it",
        );
    };
    match version {
        Some(version) if numbers(&version) < vec![1, 2] => bad(
            Level::Warning,
            what,
            format!("{path} {version}"),
            "older than 1.2: no time namespaces, so programs see the monotonic clock jump after a \
             migration; upgrade to 1.2 or newer",
        ),
        Some(version) => ok(what, format!("{path} {version}")),
        None => ok(what, format!("{path}, version unknown")),
    }
}

fn engines(root: &Root) -> Vec<Finding> {
    let criu = find(root, "criu", &[], &["criu"]);
    let prefix = dmtcp_prefix(root);
    let dmtcp = match &prefix {
        Some(prefix) => find_in(root, &format!("{prefix}/bin/dmtcp_launch")),
        None => find(root, "dmtcp_launch", &["/opt/dmtcp/bin"], &["dmtcp"]),
    };
    let none = criu.is_none() && dmtcp.is_none();
    let level = if none { Level::Error } else { Level::Warning };
    let consequence = |alone: &str| {
        if none {
            "neither engine is here: pods run, but none can be checkpointed or migrated".to_owned()
        } else {
            alone.to_owned()
        }
    };
    let criu = match criu {
        None => bad(
            level,
            "CRIU",
            "not found",
            consequence(
                "static, musl and Go programs, prefork servers and everything else that DMTCP \
                 cannot carry will not migrate, nor will `ctr` and `crictl` checkpoint them; \
                 install criu 4.2 or newer",
            ),
        ),
        Some(Program { path, version }) => match version {
            Some(version) if numbers(&version) < vec![4, 2] => bad(
                Level::Warning,
                "CRIU",
                format!("{path} {version}"),
                "older than 4.2: dumps fail on new kernels (TCP listeners, among others); upgrade",
            ),
            Some(version) => ok("CRIU", format!("{path} {version}")),
            None => ok("CRIU", format!("{path}, version unknown")),
        },
    };
    let dmtcp = match dmtcp {
        None => bad(
            level,
            "DMTCP",
            prefix.map_or_else(
                || "not in /opt/dmtcp and not in the PATH".to_owned(),
                |prefix| format!("not in {prefix}, which dmtcp_prefix in {NODE_CONFIG} names"),
            ),
            consequence("every pod uses CRIU; nothing else is lost"),
        ),
        Some(Program { path, version }) => ok(
            "DMTCP",
            format!("{path} {}", version.unwrap_or_default())
                .trim_end()
                .to_owned(),
        ),
    };
    vec![criu, dmtcp]
}

/// The prefix in which the node's configuration has DMTCP. What cannot be read says nothing here: the
/// daemon refuses it.
fn dmtcp_prefix(root: &Root) -> Option<String> {
    let text = root.read_followed(NODE_CONFIG, CONFIG_LIMIT).ok()??;
    let config: toml_edit::DocumentMut = String::from_utf8(text).ok()?.parse().ok()?;
    let prefix = config.get("dmtcp_prefix")?.as_str()?;
    (!prefix.is_empty()).then(|| prefix.to_owned())
}

fn keys(root: &Root) -> Finding {
    let missing: Vec<&str> = ["ca.crt", "node.crt", "node.key"]
        .into_iter()
        .filter(|name| !root.is_file(&format!("/etc/mycedrive/pki/{name}")))
        .collect();
    if missing.is_empty() {
        return ok("certificates", "/etc/mycedrive/pki");
    }
    bad(
        Level::Warning,
        "certificates",
        format!("/etc/mycedrive/pki lacks {}", missing.join(", ")),
        "pods run and checkpoint locally; no migration to or from this node until \
         `mycedrive pki` has made them",
    )
}

fn kernel(root: &Root) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let release = root
        .read("/proc/sys/kernel/osrelease", CONFIG_LIMIT)?
        .unwrap_or_default();
    let release = String::from_utf8_lossy(&release).trim().to_owned();
    findings.push(if numbers(&release) < vec![6, 7] {
        bad(
            Level::Warning,
            "kernel",
            release,
            "older than 6.7: no PAGEMAP_SCAN, so memory rounds compare all pages and freezes last \
             longer",
        )
    } else {
        ok("kernel", release)
    });
    let tun = root.kind("/dev/net/tun")? == crate::root::Kind::Other;
    findings.push(if tun {
        ok("tun", "/dev/net/tun")
    } else {
        bad(
            Level::Warning,
            "tun",
            "/dev/net/tun is missing",
            "open connections cannot be kept over a migration; `modprobe tun`",
        )
    });
    Ok(findings)
}

//! Files in /etc of a node.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::network::Addresses;
use crate::{Error, Result};

/// The pod network: a bridge on the node, IPv4 and IPv6, nothing masqueraded.
pub(super) fn pod_network(index: u8) -> String {
    let network = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [
                    [{ "subnet": Addresses::pods4(index) }],
                    [{ "subnet": Addresses::pods6(index) }],
                ],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        }],
    });
    format!("{network:#}\n")
}

/// The node daemon's configuration: defaults, but for the number of migrations that tests leave
/// unfinished beside each other.
pub(super) fn daemon() -> String {
    "# See `mycedrive serve --help`.\n[migration]\nmax_parallel = 64\n".to_owned()
}

/// Names of all nodes, for /etc/hosts.
pub(super) fn hosts<'a>(nodes: impl Iterator<Item = (&'a str, u8)>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for (name, index) in nodes {
        let (link4, link6) = (Addresses::link4(index), Addresses::link6(index));
        for line in [link4, link6] {
            text.push_str(&line);
            text.push(' ');
            text.push_str(name);
            text.push('\n');
        }
    }
    text
}

/// Writes a file into a tree, with its directories.
pub(super) fn install(root: &Path, path: &str, content: &str) -> Result<()> {
    let target = root.join(path);
    if let Some(dir) = target.parent() {
        fs::create_dir_all(dir).map_err(Error::file("make", dir))?;
    }
    fs::write(&target, content).map_err(Error::file("write", &target))
}

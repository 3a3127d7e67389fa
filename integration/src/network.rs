//! The testbed's network: a bridge in a namespace of its own, and a link to each node.
//!
//! | | IPv4 | IPv6 |
//! |---|---|---|
//! | link of node N | 10.77.0.N/24 | fd77::N/64 |
//! | pods of node N | 10.88.N.0/24 | fd88:0:0:N::/64 |
//!
//! None of these exist outside the testbed's namespaces, so testbeds do not see each other.

use std::path::PathBuf;

use crate::run::run;
use crate::{Error, Result};

const SWITCH: &str = "switch";
const BRIDGE: &str = "links";
/// Name of a node's end of its link.
pub(crate) const UPLINK: &str = "eth0";

/// Addresses that follow from a node's number.
pub(crate) struct Addresses;

impl Addresses {
    pub(crate) fn link4(index: u8) -> String {
        format!("10.77.0.{index}")
    }
    pub(crate) fn link6(index: u8) -> String {
        format!("fd77::{index:x}")
    }
    pub(crate) fn pods4(index: u8) -> String {
        format!("10.88.{index}.0/24")
    }
    pub(crate) fn pods6(index: u8) -> String {
        format!("fd88:0:0:{index:x}::/64")
    }
}

/// Name of a node's network namespace, as `ip netns` shows it.
pub(crate) fn namespace(testbed: &str, node: &str) -> String {
    format!("myce.{testbed}.{node}")
}

/// Where that namespace can be opened.
pub(crate) fn namespace_path(testbed: &str, node: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(namespace(testbed, node))
}

fn ip(args: &[&str]) -> Result<String> {
    run("ip", args)?.ok()
}

/// Makes the bridge in its namespace.
pub(crate) fn create_switch(testbed: &str) -> Result<()> {
    let switch = namespace(testbed, SWITCH);
    ip(&["netns", "add", &switch])?;
    ip(&["-n", &switch, "link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["-n", &switch, "link", "set", BRIDGE, "up"])?;
    Ok(())
}

/// Makes a node's namespace and links it to the bridge.
pub(crate) fn create_link(testbed: &str, node: &str, index: u8) -> Result<()> {
    let (switch, own, port) = (
        namespace(testbed, SWITCH),
        namespace(testbed, node),
        port(index),
    );
    ip(&["netns", "add", &own])?;
    ip(&[
        "link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", UPLINK, "netns",
        &own,
    ])?;
    ip(&["-n", &switch, "link", "set", &port, "master", BRIDGE, "up"])?;
    ip(&["-n", &own, "link", "set", "lo", "up"])?;
    ip(&["-n", &own, "link", "set", UPLINK, "up"])?;
    ip(&[
        "-n",
        &own,
        "address",
        "add",
        &format!("{}/24", Addresses::link4(index)),
        "dev",
        UPLINK,
    ])?;
    ip(&[
        "-n",
        &own,
        "address",
        "add",
        &format!("{}/64", Addresses::link6(index)),
        "dev",
        UPLINK,
        "nodad",
    ])?;
    Ok(())
}

/// Removes a node's link, then its namespace. In this order: the kernel takes a namespace apart in its own
/// time, and until then the bridge's end keeps its name.
pub(crate) fn remove_link(testbed: &str, node: &str, index: u8) -> Result<()> {
    let switch = namespace(testbed, SWITCH);
    ip(&["-n", &switch, "link", "delete", &port(index)])?;
    ip(&["netns", "delete", &namespace(testbed, node)]).map(drop)
}

/// Tells a node the way to the pods of another one.
pub(crate) fn add_pod_route(testbed: &str, node: &str, other: u8) -> Result<()> {
    let own = namespace(testbed, node);
    ip(&[
        "-n",
        &own,
        "route",
        "replace",
        &Addresses::pods4(other),
        "via",
        &Addresses::link4(other),
    ])?;
    ip(&[
        "-n",
        &own,
        "route",
        "replace",
        &Addresses::pods6(other),
        "via",
        &Addresses::link6(other),
    ])?;
    Ok(())
}

/// Connects or cuts a node's link, at the bridge's side.
pub(crate) fn set_link(testbed: &str, index: u8, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    ip(&[
        "-n",
        &namespace(testbed, SWITCH),
        "link",
        "set",
        &port(index),
        state,
    ])
    .map(drop)
}

/// Limits what a node sends and receives to a rate such as `3mbit` (as in tc(8)); `None`: no limit.
pub(crate) fn set_rate(testbed: &str, node: &str, index: u8, rate: Option<&str>) -> Result<()> {
    let ends = [
        (namespace(testbed, node), UPLINK.to_owned()),
        (namespace(testbed, SWITCH), port(index)),
    ];
    for (namespace, device) in ends {
        if let Some(rate) = rate {
            let shape = [
                "root", "tbf", "rate", rate, "burst", "16kb", "latency", "300ms",
            ];
            let args = [
                &["-n", &namespace, "qdisc", "replace", "dev", &device],
                &shape[..],
            ]
            .concat();
            run("tc", &args)?.ok()?;
        } else {
            // Fails where no limit was set.
            run(
                "tc",
                &["-n", &namespace, "qdisc", "del", "dev", &device, "root"],
            )?;
        }
    }
    Ok(())
}

/// Removes all namespaces of a testbed.
pub(crate) fn destroy(testbed: &str) -> Result<()> {
    let prefix = namespace(testbed, "");
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries.filter_map(std::result::Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            ip(&["netns", "delete", &name])?;
        }
    }
    Ok(())
}

/// A name for nodes, testbeds: short enough for paths, without the separator.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 20
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if good && name != SWITCH {
        Ok(())
    } else {
        Err(Error::Name(name.to_owned()))
    }
}

fn port(index: u8) -> String {
    format!("port{index}")
}

//! Where clients are: a third node, the source, the destination, behind a translation of addresses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_integration::Testbed;
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::workload::redis;

use super::address;
use crate::expect;
use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};

pub fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = [
        ("on_a_third_node", "client", 4),
        ("on_a_third_node_ipv6", "client", 6),
        ("on_the_source", "a", 4),
        ("on_the_source_ipv6", "a", 6),
        ("on_the_destination", "b", 4),
        ("on_the_destination_ipv6", "b", 6),
    ]
    .into_iter()
    .map(|(name, place, version)| {
        Scenario::new(format!("connections::client_{name}"), move |testbed| {
            with_client(testbed, place, version)
        })
    })
    .collect();
    all.extend([
        Scenario::new("connections::client_behind_a_node_port", behind_a_node_port),
        Scenario::new("connections::new_address_serves", new_address_serves),
    ]);
    all
}

fn with_client(testbed: &Testbed, place: &str, version: u8) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    redis::fill(a, &source, 8)?;
    let address = address(&source, version)?.to_string();
    let client = client(testbed.node(place)?, &address)?;
    let destination = migrate(a, b, &pod)?;
    let last = finish(client)?;
    let counter = expect::exec(b, &destination, "redis", &["redis-cli", "get", "counter"])?;
    expect::equal("counter", counter, last.to_string())?;
    expect::equal(
        "keys",
        expect::exec(b, &destination, "redis", &["redis-cli", "dbsize"])?.as_str(),
        "401",
    )
}

/// Node A translates both addresses, as kube-proxy does for a NodePort: the pod never sees the
/// client's.
fn behind_a_node_port(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    client(a, &source.ip).and_then(finish)?;
    a.sh(&format!(
        "nft -f - <<END
table ip node-port {{
  chain to_pod {{ type nat hook prerouting priority dstnat; tcp dport 30079 dnat to {}:6379; }}
  chain from_node {{ type nat hook postrouting priority srcnat; tcp dport 6379 ct status dnat masquerade; }}
}}
END",
        source.ip
    ))?;
    let moved = (|| {
        let address = SocketAddr::new(a.address().parse()?, 30079);
        let client = Client::start_on(outside, &Client::program()?, address, "port")?;
        std::thread::sleep(Duration::from_millis(400));
        let seen = expect::exec(a, &source, "redis", &["redis-cli", "client", "list"])?;
        ensure!(
            !seen.contains(&format!("addr={}:", outside.address())),
            "the address was not translated: {seen}"
        );
        let destination = migrate(a, b, &pod)?;
        let last = finish(client)?;
        let counter = expect::exec(b, &destination, "redis", &["redis-cli", "get", "port"])?;
        expect::equal("counter", counter, last.to_string())
    })();
    a.sh("nft delete table ip node-port")?;
    moved
}

fn new_address_serves(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    let old = client(outside, &source.ip)?;
    let destination = migrate(a, b, &pod)?;
    for address in [&destination.ip, &destination.more_ips[0]] {
        expect::equal(
            "pong",
            outside
                .sh(&format!("redis-cli -h {address} ping"))?
                .as_str(),
            "PONG",
        )?;
    }
    finish(old).map(drop)
}

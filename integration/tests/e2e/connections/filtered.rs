//! Networks that let a node send with its own pods' addresses only.

use anyhow::{Result, ensure};
use mycedrive_integration::{Node, Testbed};

use super::{address, all_clean, counter};
use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};
use mycedrive_integration::workload::redis;

pub fn all() -> Vec<Scenario> {
    vec![Scenario::new(
        "connections::filtered_source_addresses",
        filtered_source_addresses,
    )]
}

/// Drops, and counts, what a node's pods send with an address that is not of that node, as CNI
/// plugins against forged addresses do; strict reverse-path checks besides.
const FILTER: &str = "
nft -f - <<END
table inet forged {
  counter seen { }
  counter dropped { }
  chain prerouting {
    type filter hook prerouting priority raw;
    iifname cni0 counter name seen
    iifname cni0 ip saddr != 10.88.NUMBER.0/24 counter name dropped drop
    iifname cni0 ip6 saddr != { fd88:0:0:NUMBER::/64, fe80::/10, :: } counter name dropped drop
  }
}
END
echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter
";
const UNDO: &str = "
nft delete table inet forged
echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
";

/// Old addresses are used in the old pod only, so nothing is dropped and both moves work.
fn filtered_source_addresses(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let workers: Vec<&Node> = testbed.workers().collect();
    for (node, number) in workers.iter().zip(1..) {
        node.sh(&FILTER.replace("NUMBER", &format!("{number}")))?;
    }
    let moved = moves(testbed, &workers);
    for node in workers {
        node.sh(UNDO)?;
    }
    moved
}

fn moves(testbed: &Testbed, workers: &[&Node]) -> Result<()> {
    let (a, b, outside) = three(testbed)?;
    let pod = redis::pod("redis-0", "mycedrive");
    let source = a.run_pod(&pod)?;
    client(outside, &source.ip).and_then(finish)?;
    let mut clients = Vec::new();
    for version in [4, 6] {
        let name = format!("ipv{version}");
        clients.push(counter(outside, address(&source, version)?, &name)?);
    }
    migrate(a, b, &pod)?;
    migrate(b, testbed.node("c")?, &pod)?;
    all_clean(clients)?;
    for node in workers {
        let seen = node.sh("nft list counter inet forged seen")?;
        ensure!(
            !seen.contains("packets 0 "),
            "the filter of {} sees nothing of its pods",
            node.name()
        );
        let dropped = node.sh("nft list counter inet forged dropped")?;
        ensure!(
            dropped.contains("packets 0 "),
            "{} dropped packets: {dropped}",
            node.name()
        );
    }
    Ok(())
}

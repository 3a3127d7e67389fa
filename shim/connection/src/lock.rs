//! The lock: what may pass while the pod is between two nodes.

use crate::kernel::nft::{Chain, Hook, Rule, Step, Table, Verdict};
use crate::{CRIU_MARK, TABLE, Tun};
use std::net::IpAddr;

/// Before connection tracking and every other filter.
const FIRST: i32 = -400;
/// Where packets are marked for routing by convention ("mangle"): after connection tracking,
/// so that a translation which the pod's namespace makes goes on for its connections.
pub(crate) const MARKING: i32 = -150;

/// Listener queries and reports, router and neighbour discovery (RFC 2710, RFC 4861). Without
/// them a switch or neighbour forgets where the old address is.
const DISCOVERY: (u8, u8) = (130, 137);
/// Version 2 listener report (RFC 3810).
const LISTENER_REPORT: (u8, u8) = (143, 143);

/// Name of the table.
pub(crate) const NAME: &str = "mycedrive";

const ACCEPT: Step = Step::Verdict(Verdict::Accept);
const DROP: Step = Step::Verdict(Verdict::Drop);

/// Nothing reaches a socket of the pod, nothing leaves one; loopback included, but for TCP from and
/// to the port that `passes`.
pub(crate) fn destination(passes: Option<u16>) -> Table {
    Table {
        name: NAME,
        sets: vec![],
        chains: vec![
            closed("input", Hook::Input, passes),
            closed("output", Hook::Output, passes),
        ],
    }
}

/// As on the destination; in addition packets for the old addresses, and for those of earlier
/// pods that were `adopted`, are marked, which leads them into the TUN, and only packets from the
/// old addresses come out of it.
pub(crate) fn source(old: &[IpAddr], adopted: &[IpAddr], passes: Option<u16>) -> Table {
    let mut table = destination(passes);
    table.chains.extend(diverted(old, adopted, &[]));
    table
}

/// Before that, while the pod still runs: its TCP connections go on, new ones and datagrams go into
/// the TUN, and the pod takes what has come before.
pub(crate) fn newcomers(old: &[IpAddr], adopted: &[IpAddr], passes: Option<u16>) -> Table {
    let mut rules = vec![];
    if let Some(port) = passes {
        rules.push(vec![Step::In("lo"), Step::TcpTo(port), ACCEPT]);
    }
    rules.push(vec![Step::In("lo"), Step::TcpFirst, DROP]);
    let mut chains = vec![Chain {
        name: "input",
        hook: Hook::Input,
        priority: FIRST,
        reroutes: false,
        policy: Verdict::Accept,
        rules,
    }];
    chains.extend(diverted(old, adopted, &[vec![Step::TcpLater, ACCEPT]]));
    Table {
        name: NAME,
        sets: vec![],
        chains,
    }
}

/// The ways into the TUN, but for what `stays`, and out of it.
fn diverted(old: &[IpAddr], adopted: &[IpAddr], stays: &[Rule]) -> [Chain; 2] {
    let tun = Tun::Source.name();
    let mut rules = Vec::new();
    for address in old {
        // Marked as well: with it the check of the source address finds the way back into
        // the TUN, whatever rp_filter says.
        rules.push(vec![
            Step::In(tun),
            Step::From(*address),
            Step::SetMark(TABLE),
            ACCEPT,
        ]);
    }
    rules.push(vec![Step::In(tun), DROP]);
    rules.push(vec![Step::In("lo"), ACCEPT]);
    rules.extend(discovery());
    rules.extend_from_slice(stays);
    for address in old.iter().chain(adopted) {
        rules.push(vec![Step::To(*address), Step::SetMark(TABLE), ACCEPT]);
    }
    let divert = Chain {
        name: "divert",
        hook: Hook::Prerouting,
        priority: MARKING,
        reroutes: false,
        policy: Verdict::Accept,
        rules,
    };
    // Forwarding had to be switched on for the TUN; it is for the TUN only.
    let forward = Chain {
        name: "forward",
        hook: Hook::Forward,
        priority: FIRST,
        reroutes: false,
        policy: Verdict::Drop,
        rules: vec![vec![Step::In(tun), ACCEPT], vec![Step::Out(tun), ACCEPT]],
    };
    [divert, forward]
}

fn closed(name: &'static str, hook: Hook, passes: Option<u16>) -> Chain {
    let mut rules = vec![vec![Step::Mark(CRIU_MARK), ACCEPT]];
    if let Some(port) = passes {
        let loopback = match hook {
            Hook::Output => Step::Out("lo"),
            _ => Step::In("lo"),
        };
        rules.push(vec![loopback.clone(), Step::TcpFrom(port), ACCEPT]);
        rules.push(vec![loopback, Step::TcpTo(port), ACCEPT]);
    }
    rules.extend(discovery());
    Chain {
        name,
        hook,
        priority: FIRST,
        reroutes: false,
        policy: Verdict::Drop,
        rules,
    }
}

fn discovery() -> [Vec<Step>; 2] {
    [DISCOVERY, LISTENER_REPORT].map(|(from, to)| vec![Step::Icmpv6(from, to), ACCEPT])
}

//! The lock: what may pass while the pod is between two nodes.

use crate::kernel::nft::{Chain, Hook, Match, Rule, Verdict};
use crate::{CRIU_MARK, DEVICE, TABLE};
use std::net::IpAddr;

/// Before connection tracking and every other filter.
const FIRST: i32 = -400;
/// Where packets are marked for routing by convention ("mangle"): after connection tracking,
/// so that a translation which the pod's namespace makes goes on for its connections.
const MARKING: i32 = -150;

/// Listener queries and reports, router and neighbour discovery (RFC 2710, RFC 4861). Without
/// them a switch or neighbour forgets where the old address is.
const DISCOVERY: (u8, u8) = (130, 137);
/// Version 2 listener report (RFC 3810).
const LISTENER_REPORT: (u8, u8) = (143, 143);

/// Nothing reaches a socket of the pod, nothing leaves one; loopback included.
pub(crate) fn destination() -> Vec<Chain> {
    vec![closed("input", Hook::Input), closed("output", Hook::Output)]
}

/// As on the destination; in addition packets for the old addresses are marked, which leads
/// them into the TUN, and only packets from the old addresses come out of it.
pub(crate) fn source(old: &[IpAddr]) -> Vec<Chain> {
    let mut chains = destination();
    let marked = |matches| Rule {
        matches,
        mark: Some(TABLE),
        verdict: Verdict::Accept,
    };
    let mut rules = Vec::new();
    for address in old {
        // Marked as well: with it the check of the source address finds the way back into
        // the TUN, whatever rp_filter says.
        rules.push(marked(vec![Match::In(DEVICE), Match::From(*address)]));
    }
    rules.push(simple(vec![Match::In(DEVICE)], Verdict::Drop));
    rules.push(simple(vec![Match::In("lo")], Verdict::Accept));
    rules.extend(discovery());
    for address in old {
        rules.push(marked(vec![Match::To(*address)]));
    }
    chains.push(Chain {
        name: "divert",
        hook: Hook::Prerouting,
        priority: MARKING,
        policy: Verdict::Accept,
        rules,
    });
    // Forwarding had to be switched on for the TUN; it is for the TUN only.
    chains.push(Chain {
        name: "forward",
        hook: Hook::Forward,
        priority: FIRST,
        policy: Verdict::Drop,
        rules: vec![
            simple(vec![Match::In(DEVICE)], Verdict::Accept),
            simple(vec![Match::Out(DEVICE)], Verdict::Accept),
        ],
    });
    chains
}

fn closed(name: &'static str, hook: Hook) -> Chain {
    let mut rules = vec![simple(vec![Match::Mark(CRIU_MARK)], Verdict::Accept)];
    rules.extend(discovery());
    Chain {
        name,
        hook,
        priority: FIRST,
        policy: Verdict::Drop,
        rules,
    }
}

fn discovery() -> [Rule; 2] {
    [DISCOVERY, LISTENER_REPORT]
        .map(|(from, to)| simple(vec![Match::Icmpv6(from, to)], Verdict::Accept))
}

fn simple(matches: Vec<Match>, verdict: Verdict) -> Rule {
    Rule {
        matches,
        mark: None,
        verdict,
    }
}

//! UDP answers from the old address.
//!
//! A server whose UDP socket is bound to no address has the kernel choose the source of its
//! answers, by the route to the client: the pod's new address, which a client of the old one
//! does not expect. So the senders of datagrams to an old address are remembered for a while,
//! and what goes back to them from the same port gets that address as its source. TCP and
//! connected UDP need none of this: their sockets have the address.

use crate::kernel::nft::{Chain, Hook, Set, Step, Table, Verdict, Version};
use crate::{Route, Tun, lock};
use std::net::IpAddr;

/// The first old address of each version: a second one would need sets of its own.
pub(crate) fn table(route: Route, old: &[IpAddr]) -> Table {
    let mut table = Table {
        name: route.reply_table(),
        sets: vec![],
        chains: vec![
            chain("learn", Hook::Prerouting, false),
            chain("answer", Hook::Output, true),
        ],
    };
    for (version, name) in [(Version::Four, "peers4"), (Version::Six, "peers6")] {
        let Some(address) = old.iter().find(|a| Version::of(**a) == version) else {
            continue;
        };
        table.sets.push(Set { name, version });
        table.chains[0].rules.push(vec![
            Step::In(Tun::Route(route).name()),
            Step::To(*address),
            Step::Udp,
            Step::Learn(name, version),
        ]);
        table.chains[1].rules.push(vec![
            Step::Udp,
            Step::Known(name, version),
            Step::SetSource(*address),
        ]);
    }
    table
}

fn chain(name: &'static str, hook: Hook, reroutes: bool) -> Chain {
    Chain {
        name,
        hook,
        priority: lock::MARKING,
        reroutes,
        policy: Verdict::Accept,
        rules: vec![],
    }
}

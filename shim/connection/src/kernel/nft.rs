//! nf_tables over nfnetlink (linux/netfilter/nf_tables.h): one small table, written in one
//! transaction. The `nft` program is not needed on the node, and starting it would be felt in
//! the freeze.

mod expression;

use super::message::{Message, attributes};
use super::netlink::{Netlink, unless};
use crate::Result;
use libc::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::SockProtocol;
use std::net::IpAddr;

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const FAMILY_INET: u8 = 1;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVALUATED: u32 = 0x20;

/// Where a chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// One step of a rule. A condition that does not hold ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Mark(u32),
    In(&'static str),
    Out(&'static str),
    /// ICMPv6 with a type in this range, both ends included.
    Icmpv6(u8, u8),
    Udp,
    /// TCP from this port.
    TcpFrom(u16),
    /// TCP to this port.
    TcpTo(u16),
    /// TCP that asks for a connection.
    TcpFirst,
    /// Any other TCP.
    TcpLater,
    From(IpAddr),
    To(IpAddr),
    SetMark(u32),
    /// Enter the sender of this UDP datagram and our port in the set.
    Learn(&'static str, Version),
    /// The receiver of this UDP datagram, with our port, is in the set.
    Known(&'static str, Version),
    /// Write another source address.
    SetSource(IpAddr),
    Verdict(Verdict),
}

/// IP version of a set's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Four,
    Six,
}

pub(crate) type Rule = Vec<Step>;

/// A base chain. One that changes packets on their way out has them routed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    pub(crate) reroutes: bool,
    pub(crate) policy: Verdict,
    pub(crate) rules: Vec<Rule>,
}

/// Senders of UDP datagrams: address, port, our port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) version: Version,
}

/// A table of the family `inet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<Chain>,
}

/// How long a sender is remembered after its last datagram, and how many at most.
const REMEMBERED: u64 = 300_000;
const SENDERS: u32 = 65_536;

/// Put the table in place, replacing the one of its name.
pub(crate) fn replace(wanted: &Table) -> Result<()> {
    let name = wanted.name;
    let what = format!("write the table inet {name}");
    transaction(changes(wanted, present(name)?), &what)
}

/// Until the kernel has freed what a transaction deleted, no other one begins: so what is not `there`
/// is not deleted.
fn changes(wanted: &Table, there: bool) -> Vec<Message> {
    let name = wanted.name;
    let mut changes = vec![];
    if there {
        // Adding what may be there and deleting it empties the table within the transaction.
        changes.extend([table(NEW_TABLE, name), table(DELETE_TABLE, name)]);
    }
    changes.push(table(NEW_TABLE, name));
    for (id, one) in wanted.sets.iter().enumerate() {
        changes.push(set(name, *one, id as u32 + 1));
    }
    for one in &wanted.chains {
        changes.push(chain(name, one));
        changes.extend(one.rules.iter().map(|r| rule(name, one.name, r)));
    }
    changes
}

/// Remove the table, if it is there.
pub(crate) fn remove(name: &str) -> Result<()> {
    let what = format!("delete the table inet {name}");
    let result = transaction(vec![table(DELETE_TABLE, name)], &what);
    unless(result, &[libc::ENOENT])
}

/// Whether the table is in place.
pub(crate) fn present(name: &str) -> Result<bool> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    let message = Message::new(GET_TABLE, flags, &header(FAMILY_INET, 0));
    let replies = netlink.dump(&message, "list the tables")?;
    let name = [name.as_bytes(), &[0]].concat();
    Ok(replies.iter().any(|reply| {
        attributes(reply.body.get(4..).unwrap_or_default())
            .any(|(kind, value)| kind == attr::TABLE_NAME && value == name)
    }))
}

fn transaction(changes: Vec<Message>, what: &str) -> Result<()> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let acknowledged = changes.len();
    let mut messages = vec![Message::new(
        BATCH_BEGIN,
        NLM_F_REQUEST,
        &header(0, SUBSYSTEM >> 8),
    )];
    messages.extend(changes);
    messages.push(Message::new(
        BATCH_END,
        NLM_F_REQUEST,
        &header(0, SUBSYSTEM >> 8),
    ));
    let result = netlink.changes(messages, acknowledged, what);
    // The transaction takes 0.1 to 0.3 ms, but closing the socket waits for the kernel to free
    // what was deleted (an RCU grace period, 7 to 14 ms), and so does the next transaction. Nobody
    // else has to wait for that.
    let closing = std::thread::Builder::new().name("nft-close".into());
    if let Err(error) = closing.spawn(move || drop(netlink)) {
        tracing::debug!(%error, "no thread to close the netfilter socket; it was closed here");
    }
    result
}

/// `nfgenmsg`: family, version 0, resource in network order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

mod attr {
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const SET_TABLE: u16 = 1;
    pub(super) const SET_NAME: u16 = 2;
    pub(super) const SET_FLAGS: u16 = 3;
    pub(super) const SET_KEY_TYPE: u16 = 4;
    pub(super) const SET_KEY_LENGTH: u16 = 5;
    pub(super) const SET_DESCRIPTION: u16 = 9;
    pub(super) const SET_ID: u16 = 10;
    pub(super) const SET_TIMEOUT_MS: u16 = 11;
    pub(super) const DESCRIBED_SIZE: u16 = 1;
}

fn table(kind: u16, name: &str) -> Message {
    let create = if kind == NEW_TABLE { NLM_F_CREATE } else { 0 };
    let flags = NLM_F_REQUEST | NLM_F_ACK | create;
    Message::new(kind, flags, &header(FAMILY_INET, 0)).string(attr::TABLE_NAME, name)
}

fn set(table: &str, set: Set, id: u32) -> Message {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    Message::new(NEW_SET, flags, &header(FAMILY_INET, 0))
        .string(attr::SET_TABLE, table)
        .string(attr::SET_NAME, set.name)
        .number_be(attr::SET_FLAGS, SET_TIMEOUT | SET_EVALUATED)
        .number_be(attr::SET_KEY_TYPE, set.version.key_type())
        .number_be(attr::SET_KEY_LENGTH, set.version.key())
        .nest(attr::SET_DESCRIPTION, |m| {
            m.number_be(attr::DESCRIBED_SIZE, SENDERS)
        })
        .number_be(attr::SET_ID, id)
        .attribute(attr::SET_TIMEOUT_MS, &REMEMBERED.to_be_bytes())
}

fn chain(table: &str, chain: &Chain) -> Message {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    Message::new(NEW_CHAIN, flags, &header(FAMILY_INET, 0))
        .string(attr::CHAIN_TABLE, table)
        .string(attr::CHAIN_NAME, chain.name)
        .nest(attr::CHAIN_HOOK, |m| {
            m.number_be(attr::HOOK_NUMBER, chain.hook as u32)
                .number_be(attr::HOOK_PRIORITY, chain.priority as u32)
        })
        .number_be(attr::CHAIN_POLICY, chain.policy as u32)
        .string(
            attr::CHAIN_TYPE,
            if chain.reroutes { "route" } else { "filter" },
        )
}

fn rule(table: &str, chain: &str, steps: &[Step]) -> Message {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
    Message::new(NEW_RULE, flags, &header(FAMILY_INET, 0))
        .string(attr::RULE_TABLE, table)
        .string(attr::RULE_CHAIN, chain)
        .nest(attr::RULE_EXPRESSIONS, |m| {
            steps.iter().fold(m, expression::step)
        })
}

#[cfg(test)]
#[path = "nft_tests.rs"]
mod tests;

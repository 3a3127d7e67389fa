//! nf_tables over nfnetlink (linux/netfilter/nf_tables.h): one small table, written in one
//! transaction. The `nft` program is not needed on the node, and starting it would be felt in
//! the freeze.

use super::message::Message;
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
const FAMILY_INET: u8 = 1;
const TABLE_NAME: &str = "mycedrive";
const REGISTER: u32 = 1;

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

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Mark(u32),
    In(&'static str),
    Out(&'static str),
    /// ICMPv6 with a type in this range, both ends included.
    Icmpv6(u8, u8),
    From(IpAddr),
    To(IpAddr),
}

/// A rule: all conditions hold, then the mark is set, then the verdict falls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) mark: Option<u32>,
    pub(crate) verdict: Verdict,
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    pub(crate) policy: Verdict,
    pub(crate) rules: Vec<Rule>,
}

/// Put `inet mycedrive` in place with exactly these chains, replacing what was there.
pub(crate) fn replace(chains: &[Chain]) -> Result<()> {
    // Adding what may be there and deleting it empties the table within the transaction.
    let mut changes = vec![table(NEW_TABLE), table(DELETE_TABLE), table(NEW_TABLE)];
    for one in chains {
        changes.push(chain(one));
        changes.extend(one.rules.iter().map(|r| rule(one.name, r)));
    }
    transaction(changes, "write the table inet mycedrive")
}

/// Remove `inet mycedrive`, if it is there.
pub(crate) fn remove() -> Result<()> {
    let result = transaction(vec![table(DELETE_TABLE)], "delete the table inet mycedrive");
    unless(result, &[libc::ENOENT])
}

/// Whether `inet mycedrive` is in place.
pub(crate) fn present() -> Result<bool> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    let message = Message::new(GET_TABLE, flags, &header(FAMILY_INET, 0));
    let replies = netlink.dump(&message, "list the tables")?;
    let name = [TABLE_NAME.as_bytes(), &[0]].concat();
    Ok(replies.iter().any(|reply| {
        super::message::attributes(reply.body.get(4..).unwrap_or_default())
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
    // what was deleted (an RCU grace period, 7 to 14 ms). Nobody else has to wait for that.
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
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
}

fn table(kind: u16) -> Message {
    let flags = NLM_F_REQUEST | NLM_F_ACK | if kind == NEW_TABLE { NLM_F_CREATE } else { 0 };
    Message::new(kind, flags, &header(FAMILY_INET, 0)).string(attr::TABLE_NAME, TABLE_NAME)
}

fn chain(chain: &Chain) -> Message {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    Message::new(NEW_CHAIN, flags, &header(FAMILY_INET, 0))
        .string(attr::CHAIN_TABLE, TABLE_NAME)
        .string(attr::CHAIN_NAME, chain.name)
        .nest(attr::CHAIN_HOOK, |m| {
            m.number_be(attr::HOOK_NUMBER, chain.hook as u32)
                .number_be(attr::HOOK_PRIORITY, chain.priority as u32)
        })
        .number_be(attr::CHAIN_POLICY, chain.policy as u32)
        .string(attr::CHAIN_TYPE, "filter")
}

fn rule(chain: &str, rule: &Rule) -> Message {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
    Message::new(NEW_RULE, flags, &header(FAMILY_INET, 0))
        .string(attr::RULE_TABLE, TABLE_NAME)
        .string(attr::RULE_CHAIN, chain)
        .nest(attr::RULE_EXPRESSIONS, |mut m| {
            for condition in &rule.matches {
                m = expressions(m, condition);
            }
            if let Some(mark) = rule.mark {
                m = value(m, &mark.to_ne_bytes());
                m = expression(m, "meta", |m| {
                    m.number_be(2, META_MARK).number_be(3, REGISTER)
                });
            }
            verdict(m, rule.verdict)
        })
}

const META_MARK: u32 = 3;
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const EQUAL: u32 = 0;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

fn expressions(m: Message, condition: &Match) -> Message {
    match condition {
        Match::Mark(mark) => compare(meta(m, META_MARK), EQUAL, &mark.to_ne_bytes()),
        Match::In(name) => compare(meta(m, META_IN_NAME), EQUAL, &interface(name)),
        Match::Out(name) => compare(meta(m, META_OUT_NAME), EQUAL, &interface(name)),
        Match::Icmpv6(from, to) => {
            let m = family(m, libc::NFPROTO_IPV6);
            let m = compare(meta(m, META_PROTOCOL), EQUAL, &[libc::IPPROTO_ICMPV6 as u8]);
            let m = payload(m, PAYLOAD_TRANSPORT, 0, 1);
            compare(compare(m, AT_LEAST, &[*from]), AT_MOST, &[*to])
        }
        Match::From(address) => address_at(m, *address, 12, 8),
        Match::To(address) => address_at(m, *address, 16, 24),
    }
}

fn address_at(m: Message, address: IpAddr, v4: u32, v6: u32) -> Message {
    let (protocol, offset) = match address {
        IpAddr::V4(_) => (libc::NFPROTO_IPV4, v4),
        IpAddr::V6(_) => (libc::NFPROTO_IPV6, v6),
    };
    let bytes = super::link::octets(address);
    let m = payload(family(m, protocol), PAYLOAD_NETWORK, offset, bytes.len());
    compare(m, EQUAL, &bytes)
}

fn family(m: Message, protocol: i32) -> Message {
    compare(meta(m, META_FAMILY), EQUAL, &[protocol as u8])
}

/// Interface names are compared over their whole field.
fn interface(name: &str) -> [u8; libc::IFNAMSIZ] {
    let mut field = [0; libc::IFNAMSIZ];
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    field
}

fn meta(m: Message, key: u32) -> Message {
    expression(m, "meta", |m| m.number_be(2, key).number_be(1, REGISTER))
}

fn payload(m: Message, base: u32, offset: u32, length: usize) -> Message {
    expression(m, "payload", |m| {
        m.number_be(1, REGISTER)
            .number_be(2, base)
            .number_be(3, offset)
            .number_be(4, length as u32)
    })
}

fn compare(m: Message, operation: u32, value: &[u8]) -> Message {
    expression(m, "cmp", |m| {
        m.number_be(1, REGISTER)
            .number_be(2, operation)
            .nest(3, |m| m.attribute(1, value))
    })
}

/// Load a value into the register.
fn value(m: Message, bytes: &[u8]) -> Message {
    expression(m, "immediate", |m| {
        m.number_be(1, REGISTER).nest(2, |m| m.attribute(1, bytes))
    })
}

fn verdict(m: Message, verdict: Verdict) -> Message {
    // Register 0 is the verdict; the data is a nested verdict with its code.
    expression(m, "immediate", |m| {
        m.number_be(1, 0)
            .nest(2, |m| m.nest(2, |m| m.number_be(1, verdict as u32)))
    })
}

fn expression(m: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    m.nest(attr::LIST_ELEMENT, |m| {
        m.string(attr::EXPRESSION_NAME, name)
            .nest(attr::EXPRESSION_DATA, fill)
    })
}

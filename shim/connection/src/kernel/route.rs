//! Policy rules and routes (rtnetlink(7), linux/fib_rules.h).

use super::link::{family, octets};
use super::message::{Message, attributes, u32_at};
use super::netlink::{Netlink, unless};
use crate::Result;
use libc::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use nix::sys::socket::SockProtocol;
use std::net::IpAddr;

const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
pub(crate) const LOCAL_TABLE: u32 = 255;

/// `AF_INET` or `AF_INET6`.
pub(crate) type Family = u8;

/// What a policy rule matches and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) family: Family,
    pub(crate) preference: u32,
    pub(crate) table: u32,
    pub(crate) mark: Option<u32>,
    pub(crate) from: Option<IpAddr>,
}

pub(crate) struct Routes {
    netlink: Netlink,
}

impl Routes {
    pub(crate) fn open() -> Result<Routes> {
        let netlink = Netlink::open(SockProtocol::NetlinkRoute)?;
        Ok(Routes { netlink })
    }

    pub(crate) fn add_rule(&mut self, rule: &Rule) -> Result<()> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let message = rule_message(libc::RTM_NEWRULE, flags, rule);
        let result = self.netlink.change(message, &format!("add {rule:?}"));
        unless(result, &[libc::EEXIST])
    }

    pub(crate) fn delete_rule(&mut self, rule: &Rule) -> Result<()> {
        let message = rule_message(libc::RTM_DELRULE, NLM_F_REQUEST | NLM_F_ACK, rule);
        let result = self.netlink.change(message, &format!("delete {rule:?}"));
        unless(result, &[libc::ENOENT, libc::EAFNOSUPPORT])
    }

    /// The rules of one family, in the order in which they are consulted.
    pub(crate) fn rules(&mut self, family: Family) -> Result<Vec<Rule>> {
        let mut header = [0; 12];
        header[0] = family;
        let message = Message::new(libc::RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, &header);
        let replies = self.netlink.dump(&message, "list rules")?;
        Ok(replies.iter().filter_map(|r| rule(&r.body)).collect())
    }

    /// A route in `table` out of the link `index`: to one address, or to everywhere.
    pub(crate) fn add_route(
        &mut self,
        table: u32,
        index: u32,
        family: Family,
        to: Option<IpAddr>,
    ) -> Result<()> {
        let bytes = to.map(octets).unwrap_or_default();
        let prefix = (bytes.len() * 8) as u8;
        // rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let header = [
            family,
            prefix,
            0,
            0,
            0,
            RTPROT_STATIC,
            SCOPE_LINK,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut message = Message::new(libc::RTM_NEWROUTE, flags, &header)
            .number(RTA_TABLE, table)
            .number(RTA_OIF, index);
        if !bytes.is_empty() {
            message = message.attribute(RTA_DST, &bytes);
        }
        let what = match to {
            Some(address) => format!("add the route to {address} out of a TUN"),
            None => "add the default route out of a TUN".into(),
        };
        unless(self.netlink.change(message, &what), &[libc::EEXIST])
    }
}

fn rule_message(kind: u16, flags: i32, rule: &Rule) -> Message {
    let source = rule.from.map(octets).unwrap_or_default();
    let mut header = [0; 12];
    header[0] = rule.family;
    header[2] = (source.len() * 8) as u8;
    header[7] = FR_ACT_TO_TBL;
    let mut message = Message::new(kind, flags, &header)
        .number(FRA_PRIORITY, rule.preference)
        .number(FRA_TABLE, rule.table);
    if !source.is_empty() {
        message = message.attribute(FRA_SRC, &source);
    }
    if let Some(mark) = rule.mark {
        message = message.number(FRA_FWMARK, mark);
    }
    if rule.table == LOCAL_TABLE {
        message = message.attribute(FRA_PROTOCOL, &[RTPROT_KERNEL]);
    }
    message
}

fn rule(body: &[u8]) -> Option<Rule> {
    let mut found = Rule {
        family: *body.first()?,
        preference: 0,
        table: u32::from(*body.get(4)?),
        mark: None,
        from: None,
    };
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            FRA_PRIORITY => found.preference = u32_at(value, 0)?,
            FRA_TABLE => found.table = u32_at(value, 0)?,
            FRA_FWMARK => found.mark = u32_at(value, 0),
            FRA_SRC => found.from = super::link::ip(value),
            _ => {}
        }
    }
    Some(found)
}

/// The families among `addresses`, each once.
pub(crate) fn families(addresses: &[IpAddr]) -> Vec<Family> {
    let mut families: Vec<Family> = addresses.iter().map(|a| family(*a)).collect();
    families.sort_unstable();
    families.dedup();
    families
}

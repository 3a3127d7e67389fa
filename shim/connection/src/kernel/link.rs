//! Links and addresses (rtnetlink(7)).

use super::message::{Message, attributes, u16_at, u32_at};
use super::netlink::{Netlink, unless};
use super::tun;
use crate::device::{is_ours, is_route};
use crate::{Error, Result, Tun};
use libc::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST};
use nix::sys::socket::SockProtocol;
use std::net::IpAddr;
use std::time::Duration;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_IFALIAS: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_SECONDARY: u32 = 0x01;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const SCOPE_GLOBAL: u8 = 0;
const FOREVER: u32 = u32::MAX;
const RUNNING_TRIES: u32 = 500;
const RUNNING_PAUSE: Duration = Duration::from_millis(1);

pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) mtu: u32,
    pub(crate) loopback: bool,
    pub(crate) up: bool,
    /// Up, with carrier, and the kernel's queues are at work.
    pub(crate) running: bool,
}

pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) ip: IpAddr,
    pub(crate) global: bool,
    pub(crate) secondary: bool,
}

pub(crate) struct Links {
    netlink: Netlink,
}

impl Links {
    pub(crate) fn open() -> Result<Links> {
        let netlink = Netlink::open(SockProtocol::NetlinkRoute)?;
        Ok(Links { netlink })
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Link>> {
        let message = Message::new(libc::RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &[0; 16]);
        let replies = self.netlink.dump(&message, "list links")?;
        Ok(replies.iter().filter_map(|r| link(&r.body)).collect())
    }

    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Link>> {
        Ok(self.list()?.into_iter().find(|link| link.name == name))
    }

    /// The smallest MTU of the pod's own interfaces.
    pub(crate) fn pod_mtu(&mut self) -> Result<u32> {
        let own = |link: &Link| !link.loopback && !is_ours(&link.name);
        let links = self.list()?;
        let mtu = links.iter().filter(|l| own(l)).map(|l| l.mtu).min();
        Ok(mtu.unwrap_or(1500))
    }

    pub(crate) fn addresses(&mut self) -> Result<Vec<Address>> {
        let message = Message::new(libc::RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; 8]);
        let replies = self.netlink.dump(&message, "list addresses")?;
        Ok(replies.iter().filter_map(|r| address(&r.body)).collect())
    }

    pub(crate) fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        let message = change_link(index, 0).attribute(IFLA_IFALIAS, alias.as_bytes());
        self.netlink.change(message, "set the alias of a TUN")
    }

    /// Bring a TUN up. The kernel makes its queue when it comes up with carrier; without, it
    /// would do so up to a second after a reader has attached, and drop packets until then.
    pub(crate) fn bring_up(&mut self, device: Tun, index: u32, mtu: u32, queue: u32) -> Result<()> {
        let up = self
            .list()?
            .iter()
            .any(|link| link.index == index && link.up);
        let _carrier = if up { None } else { tun::create(device)? };
        let message = change_link(index, libc::IFF_UP as u32)
            .number(IFLA_MTU, mtu)
            .number(IFLA_TXQLEN, queue);
        let what = format!("bring up {}", device.name());
        self.netlink.change(message, &what)
    }

    /// Wait until packets for the device are not dropped any more. The kernel notices a reader
    /// that has attached a moment later (linkwatch), usually within a millisecond.
    pub(crate) fn wait_running(&mut self, name: &str) -> Result<()> {
        for _ in 0..RUNNING_TRIES {
            match self.find(name)? {
                Some(link) if !link.running => std::thread::sleep(RUNNING_PAUSE),
                _ => return Ok(()),
            }
        }
        tracing::warn!(name, "the device has a reader but is not running yet");
        Ok(())
    }

    pub(crate) fn delete(&mut self, index: u32) -> Result<()> {
        let header = link_header(index, 0);
        let message = Message::new(libc::RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, &header);
        let result = self.netlink.change(message, "delete a TUN");
        unless(result, &[libc::ENODEV])
    }

    /// Add a host address. IPv6 ones are deprecated at once, so that new connections do not
    /// choose them as their source, and are used without duplicate detection.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr) -> Result<()> {
        let bytes = octets(address);
        let mut header = vec![
            family(address),
            (bytes.len() * 8) as u8,
            IFA_F_NODAD as u8,
            SCOPE_GLOBAL,
        ];
        header.extend(index.to_ne_bytes());
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut message = Message::new(libc::RTM_NEWADDR, flags, &header)
            .attribute(IFA_LOCAL, &bytes)
            .attribute(IFA_ADDRESS, &bytes);
        if address.is_ipv6() {
            // ifa_cacheinfo: preferred and valid lifetime, two time stamps.
            let lifetimes = [0, FOREVER, 0, 0].map(u32::to_ne_bytes).concat();
            message = message.attribute(IFA_CACHEINFO, &lifetimes);
        }
        let what = format!("add {address} to a TUN");
        unless(self.netlink.change(message, &what), &[libc::EEXIST])
    }
}

fn link_header(index: u32, up: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&up.to_ne_bytes());
    header[12..16].copy_from_slice(&up.to_ne_bytes());
    header
}

fn change_link(index: u32, up: u32) -> Message {
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    Message::new(libc::RTM_NEWLINK, flags, &link_header(index, up))
}

fn link(body: &[u8]) -> Option<Link> {
    let mut found = Link {
        index: u32_at(body, 4)?,
        name: String::new(),
        alias: String::new(),
        mtu: 0,
        loopback: u16_at(body, 2)? == libc::ARPHRD_LOOPBACK,
        up: u32_at(body, 8)? & libc::IFF_UP as u32 != 0,
        running: u32_at(body, 8)? & libc::IFF_RUNNING as u32 != 0,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => found.name = text(value),
            IFLA_IFALIAS => found.alias = text(value),
            IFLA_MTU => found.mtu = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(found)
}

fn address(body: &[u8]) -> Option<Address> {
    let mut flags = u32::from(*body.get(2)?);
    let scope = *body.get(3)?;
    let (mut local, mut other) = (None, None);
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => other = ip(value),
            IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(Address {
        link: u32_at(body, 4)?,
        // On IPv6, and on point-to-point links, the two differ in meaning.
        ip: local.or(other)?,
        global: scope == SCOPE_GLOBAL && flags & (IFA_F_TENTATIVE | IFA_F_DEPRECATED) == 0,
        secondary: flags & IFA_F_SECONDARY != 0,
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

impl Links {
    /// The pod's own link that carries `address`.
    pub(crate) fn owner(&mut self, address: IpAddr) -> Result<Link> {
        let carriers: Vec<u32> = self
            .addresses()?
            .iter()
            .filter(|a| a.ip == address)
            .map(|a| a.link)
            .collect();
        self.list()?
            .into_iter()
            .find(|link| !is_ours(&link.name) && carriers.contains(&link.index))
            .ok_or(Error::NotHere { address })
    }

    /// The addresses of earlier pods that this one has.
    pub(crate) fn adopted(&mut self) -> Result<Vec<IpAddr>> {
        let routes: Vec<u32> = self
            .list()?
            .into_iter()
            .filter(|link| is_route(&link.name))
            .map(|link| link.index)
            .collect();
        let mut all = self.addresses()?;
        // Link-local ones are not made on our devices.
        all.retain(|address| routes.contains(&address.link));
        Ok(all.into_iter().map(|address| address.ip).collect())
    }
}

//! The destination's side: the old addresses on a TUN, for as long as old connections live.

use crate::device::is_ours;
use crate::kernel::link::{Links, family};
use crate::kernel::route::{Routes, Rule};
use crate::kernel::{diag, nft, sysctl};
use crate::source::own_sysctls;
use crate::{Error, PREFERENCE, PodNet, QUEUE, Result, Route, Tun, lock, remember, reply};
use std::net::IpAddr;

impl PodNet {
    /// Nothing reaches or leaves the pod's sockets. Must come before [`PodNet::adopt`]: a
    /// packet for an old address that has no socket yet would be answered with a reset.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn lock_destination(&self) -> Result<()> {
        self.inside(|| nft::replace(&lock::destination(self.passes)))
    }

    /// Open the network again.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn unlock_destination(&self) -> Result<()> {
        self.inside(|| nft::remove(lock::NAME))
    }

    /// Take the old addresses of one earlier pod: on a TUN of their own, as host addresses, with a rule that leads everything
    /// from them into it. The pod's other traffic keeps its own ways. Addresses that the pod
    /// has anyway are left alone. `mtu` is that of the source pod's interface; without it the
    /// one of this pod's interface is taken.
    ///
    /// # Errors
    ///
    /// [`Error::NoAddress`], or what the kernel refused.
    pub fn adopt(&self, route: Route, old: &[IpAddr], mtu: Option<u32>) -> Result<()> {
        self.inside(|| adopt(route, old, mtu))
    }

    /// End the connections that use these old addresses: the programs see an error, and what the
    /// kernel says to the peers (RST) is in the TUN when this returns.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn reset_connections(&self, old: &[IpAddr]) -> Result<()> {
        self.inside(|| reset(&mut Links::open()?, old))
    }

    /// Give the old addresses up and remove their TUN. Connections that still use them end: the
    /// programs see an error.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub fn drop_route(&self, route: Route, old: &[IpAddr]) -> Result<()> {
        self.inside(|| {
            let mut links = Links::open()?;
            let tun = Tun::Route(route);
            reset(&mut links, old)?;
            nft::remove(route.reply_table())?;
            let mut routes = Routes::open()?;
            for address in old {
                routes.delete_rule(&from(tun, *address))?;
            }
            remember::forget(&mut links, tun)
        })
    }
}

fn reset(links: &mut Links, old: &[IpAddr]) -> Result<()> {
    // Not those of an address that the pod has anyway.
    let mut taken = old.to_vec();
    taken.retain(|address| matches!(links.owner(*address), Err(Error::NotHere { .. })));
    diag::reset(&taken).map(drop)
}

fn adopt(route: Route, old: &[IpAddr], mtu: Option<u32>) -> Result<()> {
    let tun = Tun::Route(route);
    if old.is_empty() {
        return Err(Error::NoAddress);
    }
    let mut links = Links::open()?;
    let own: Vec<String> = links
        .list()?
        .into_iter()
        .filter(|link| !link.loopback && !is_ours(&link.name))
        .map(|link| format!("ipv4/conf/{}/arp_ignore", link.name))
        .collect();
    let index = remember::device(&mut links, tun, &own)?;
    // Where both pods are on one Ethernet, ARP for the old address is the source's to answer.
    for path in own.iter().map(|path| format!("net/{path}")) {
        if sysctl::read(&path)?.as_deref() == Some("0") {
            sysctl::write(&path, "1")?;
        }
    }
    own_sysctls(tun, old)?;
    let mtu = match mtu {
        Some(mtu) => mtu,
        None => links.pod_mtu()?,
    };
    links.bring_up(tun, index, mtu, QUEUE)?;
    let mut routes = Routes::open()?;
    let mut taken = Vec::new();
    for address in old {
        match links.owner(*address) {
            Ok(_) => continue,
            Err(Error::NotHere { .. }) => {}
            Err(error) => return Err(error),
        }
        links.add_address(index, *address)?;
        routes.add_route(tun.table(), index, family(*address), None)?;
        routes.add_rule(&from(tun, *address))?;
        taken.push(*address);
    }
    if let Err(error) = nft::replace(&reply::table(route, &taken)) {
        tracing::warn!(
            %error,
            "UDP servers bound to no address will answer clients of the old address from the new one"
        );
    }
    Ok(())
}

fn from(tun: Tun, address: IpAddr) -> Rule {
    Rule {
        family: family(address),
        preference: PREFERENCE,
        table: tun.table(),
        mark: None,
        from: Some(address),
    }
}

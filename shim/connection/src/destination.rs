//! The destination's side: the old addresses on a TUN, for as long as old connections live.

use crate::kernel::link::{Links, family};
use crate::kernel::route::{Routes, Rule};
use crate::kernel::{nft, sysctl};
use crate::remember::{self, Role};
use crate::source::{own_sysctls, refuse_other_role};
use crate::{DEVICE, Error, PREFERENCE, PodNet, QUEUE, Result, TABLE, lock, reply};
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

    /// Take the old addresses: on a TUN, as host addresses, with a rule that leads everything
    /// from them into it. The pod's other traffic keeps its own ways. Addresses that the pod
    /// has anyway are left alone. `mtu` is that of the source pod's interface; without it the
    /// one of this pod's interface is taken.
    ///
    /// # Errors
    ///
    /// [`Error::NoAddress`], [`Error::Busy`], or what the kernel refused.
    pub fn adopt(&self, old: &[IpAddr], mtu: Option<u32>) -> Result<()> {
        self.inside(|| adopt(old, mtu))
    }

    /// Give the old addresses up and remove the TUN. Connections that still use them end.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if the device serves as a source, or what the kernel refused.
    pub fn drop_route(&self, old: &[IpAddr]) -> Result<()> {
        self.inside(|| {
            let mut links = Links::open()?;
            refuse_other_role(&mut links, Role::Destination)?;
            nft::remove(reply::NAME)?;
            let mut routes = Routes::open()?;
            for address in old {
                routes.delete_rule(&from(*address))?;
            }
            remember::forget(&mut links)
        })
    }
}

fn adopt(old: &[IpAddr], mtu: Option<u32>) -> Result<()> {
    if old.is_empty() {
        return Err(Error::NoAddress);
    }
    let mut links = Links::open()?;
    let own: Vec<String> = links
        .list()?
        .into_iter()
        .filter(|link| !link.loopback && link.name != DEVICE)
        .map(|link| format!("ipv4/conf/{}/arp_ignore", link.name))
        .collect();
    let index = remember::device(&mut links, Role::Destination, &own)?;
    // Where both pods are on one Ethernet, ARP for the old address is the source's to answer.
    for path in own.iter().map(|path| format!("net/{path}")) {
        if sysctl::read(&path)?.as_deref() == Some("0") {
            sysctl::write(&path, "1")?;
        }
    }
    own_sysctls(old)?;
    let mtu = match mtu {
        Some(mtu) => mtu,
        None => links.pod_mtu()?,
    };
    links.bring_up(index, mtu, QUEUE)?;
    let mut routes = Routes::open()?;
    let mut taken = Vec::new();
    for address in old {
        match links.owner(*address) {
            Ok(_) => continue,
            Err(Error::NotHere { .. }) => {}
            Err(error) => return Err(error),
        }
        links.add_address(index, *address)?;
        routes.add_route(TABLE, index, family(*address), None)?;
        routes.add_rule(&from(*address))?;
        taken.push(*address);
    }
    if let Err(error) = nft::replace(&reply::table(&taken)) {
        tracing::warn!(
            %error,
            "UDP servers bound to no address will answer clients of the old address from the new one"
        );
    }
    Ok(())
}

fn from(address: IpAddr) -> Rule {
    Rule {
        family: family(address),
        preference: PREFERENCE,
        table: TABLE,
        mark: None,
        from: Some(address),
    }
}

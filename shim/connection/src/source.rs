//! The source's side: into the TUN, and all the way back.

use crate::device::is_route;
use crate::kernel::link::Links;
use crate::kernel::route::{Family, LOCAL_TABLE, Routes, Rule, families};
use crate::kernel::{nft, sysctl};
use crate::{Error, LOCAL_MOVED, PREFERENCE, PodNet, QUEUE, Result, TABLE, Tun, lock, remember};
use std::net::IpAddr;

impl PodNet {
    /// Everything that [`PodNet::lock_source`] needs, while the pod runs and does not notice:
    /// the TUN, sysctls, a routing table and a rule that matches only marked packets. Attach
    /// the reader ([`PodNet::open_tun`]) between this and the lock: the kernel drops packets
    /// for a TUN that nobody is attached to.
    ///
    /// # Errors
    ///
    /// [`Error::NoAddress`], [`Error::NotHere`], or what the kernel refused.
    pub fn prepare_source(&self, old: &[IpAddr]) -> Result<()> {
        self.inside(|| prepare(old))
    }

    /// One netfilter transaction: nothing reaches or leaves the pod's sockets any more, and
    /// packets for `old`, and for the addresses of earlier pods that this one has, go into the
    /// TUN. Prepares first if that was not done.
    ///
    /// # Errors
    ///
    /// As [`PodNet::prepare_source`].
    pub fn lock_source(&self, old: &[IpAddr]) -> Result<()> {
        self.inside(|| {
            let adopted = prepared(old)?;
            nft::replace(&lock::source(old, &adopted, self.passes))
        })
    }

    /// The first part of [`PodNet::lock_source`], while the pod runs: TCP connections that ask to be
    /// made and datagrams go into the TUN. What came before is the pod's to take; its connections go
    /// on. So it can be stopped when nothing waits to be taken that would not move.
    ///
    /// # Errors
    ///
    /// As [`PodNet::prepare_source`].
    pub fn hold_newcomers(&self, old: &[IpAddr]) -> Result<()> {
        self.inside(|| {
            let adopted = prepared(old)?;
            nft::replace(&lock::newcomers(old, &adopted, self.passes))
        })
    }

    /// Undo [`PodNet::lock_source`], [`PodNet::hold_newcomers`] and [`PodNet::prepare_source`], from
    /// whatever point they had reached. Packets that a reader of the TUN still holds go to the pod with
    /// [`PodNet::deliver`].
    ///
    /// # Errors
    ///
    /// What the kernel refused; the call can be repeated.
    pub fn unlock_source(&self, old: &[IpAddr]) -> Result<()> {
        self.inside(|| {
            nft::remove(lock::NAME)?;
            let mut links = Links::open()?;
            let mut routes = Routes::open()?;
            for family in families(&with_adopted(&mut links, old)?) {
                let moved = routes
                    .rules(family)?
                    .iter()
                    .any(|r| *r == local(family, LOCAL_MOVED));
                if moved {
                    routes.add_rule(&local(family, 0))?;
                }
                routes.delete_rule(&divert(family))?;
                if moved {
                    routes.delete_rule(&local(family, LOCAL_MOVED))?;
                }
            }
            remember::forget(&mut links, Tun::Source)
        })
    }

    /// Whether a lock is in place, or its first part.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Namespace`].
    pub fn locked(&self) -> Result<bool> {
        self.inside(|| nft::present(lock::NAME))
    }
}

/// Prepares if that was not done. The addresses of earlier pods that this one has.
fn prepared(old: &[IpAddr]) -> Result<Vec<IpAddr>> {
    let mut links = Links::open()?;
    let prepared = links
        .find(Tun::Source.name())?
        .is_some_and(|link| remember::parse(&link.alias).is_some());
    if !prepared {
        prepare(old)?;
    }
    links.adopted()
}

fn prepare(old: &[IpAddr]) -> Result<()> {
    if old.is_empty() {
        return Err(Error::NoAddress);
    }
    let mut links = Links::open()?;
    let mut wanted = vec![("ipv4/ip_early_demux".to_owned(), "0")];
    let mut mtu = u32::MAX;
    for address in old {
        let owner = links.owner(*address)?;
        mtu = mtu.min(owner.mtu);
        for sysctl in forwarding(*address, &owner.name)? {
            if !wanted.contains(&sysctl) {
                wanted.push(sysctl);
            }
        }
    }
    // Those of earlier pods arrive by TUNs, which forward as they are.
    let all = with_adopted(&mut links, old)?;
    for link in links.list()? {
        if is_route(&link.name) {
            mtu = mtu.min(link.mtu);
        }
    }
    let general = ("ipv6/conf/all/forwarding".to_owned(), "1");
    if all.iter().any(IpAddr::is_ipv6) && !wanted.contains(&general) {
        wanted.push(general);
    }
    let paths: Vec<String> = wanted.iter().map(|(path, _)| path.clone()).collect();
    let index = remember::device(&mut links, Tun::Source, &paths)?;
    // Early demultiplexing would hand packets to the sockets before routing is asked.
    for (path, value) in &wanted {
        sysctl::write_if_present(&format!("net/{path}"), value)?;
    }
    own_sysctls(Tun::Source, &all)?;
    links.bring_up(Tun::Source, index, mtu, QUEUE)?;
    let mut routes = Routes::open()?;
    for address in &all {
        let family = crate::kernel::link::family(*address);
        routes.add_route(TABLE, index, family, Some(*address))?;
    }
    for family in families(&all) {
        // Packets for the pod's addresses are taken by the `local` rule, so ours must come
        // before it. There is a `local` rule at every moment.
        let first = routes.rules(family)?.iter().any(|r| *r == local(family, 0));
        if first {
            routes.add_rule(&local(family, LOCAL_MOVED))?;
        }
        routes.add_rule(&divert(family))?;
        if first {
            routes.delete_rule(&local(family, 0))?;
        }
    }
    Ok(())
}

/// Sysctls below `net/` that let packets go between the owner of `address` and the TUN.
fn forwarding(address: IpAddr, owner: &str) -> Result<Vec<(String, &'static str)>> {
    if address.is_ipv4() {
        // Per interface: unlike net.ipv4.ip_forward it changes nothing else.
        return Ok(vec![(format!("ipv4/conf/{owner}/forwarding"), "1")]);
    }
    // IPv6 asks for the general switch, which would also stop the interface from listening
    // to router advertisements, and drop the routes learnt from them, unless told otherwise.
    let mut sysctls = Vec::new();
    let accept = format!("ipv6/conf/{owner}/accept_ra");
    if sysctl::read(&format!("net/{accept}"))?.as_deref() == Some("1") {
        sysctls.push((accept, "2"));
    }
    sysctls.push(("ipv6/conf/all/forwarding".to_owned(), "1"));
    Ok(sysctls)
}

/// Sysctls of the TUN itself; they go with it.
pub(crate) fn own_sysctls(tun: Tun, old: &[IpAddr]) -> Result<()> {
    let device = tun.name();
    let set = |path: &str, value| sysctl::write_if_present(&format!("net/{path}"), value);
    set(&format!("ipv4/conf/{device}/forwarding"), "1")?;
    // The check of a source address may follow the mark (see the lock's "divert" chain).
    set(&format!("ipv4/conf/{device}/src_valid_mark"), "1")?;
    if old.iter().any(IpAddr::is_ipv6) {
        set(&format!("ipv6/conf/{device}/disable_ipv6"), "0")?;
        // No address of its own, no solicitations into the relay.
        set(&format!("ipv6/conf/{device}/addr_gen_mode"), "1")?;
        set(&format!("ipv6/conf/{device}/accept_ra"), "0")
    } else {
        set(&format!("ipv6/conf/{device}/disable_ipv6"), "1")
    }
}

fn with_adopted(links: &mut Links, old: &[IpAddr]) -> Result<Vec<IpAddr>> {
    Ok([old, &links.adopted()?].concat())
}

fn local(family: Family, preference: u32) -> Rule {
    Rule {
        family,
        preference,
        table: LOCAL_TABLE,
        mark: None,
        from: None,
    }
}

fn divert(family: Family) -> Rule {
    Rule {
        family,
        preference: PREFERENCE,
        table: TABLE,
        mark: Some(TABLE),
        from: None,
    }
}

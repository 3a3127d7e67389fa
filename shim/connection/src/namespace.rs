use crate::device::is_ours;
use crate::kernel::link::Links;
use crate::kernel::{diag, sysctl, tun};
use crate::{Error, Result, Tun};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{io, thread};

/// A pod's network namespace.
///
/// It is kept alive by this handle, as by any open descriptor of it.
#[derive(Debug)]
pub struct PodNet {
    file: File,
    path: PathBuf,
    /// A TCP port on loopback that the lock lets pass.
    pub(crate) passes: Option<u16>,
}

impl PodNet {
    /// Open the namespace at `netns`, for example `/proc/PID/ns/net` or `/run/netns/NAME`.
    ///
    /// # Errors
    ///
    /// [`Error::Namespace`] if it is not there, [`Error::HostNetwork`] if it is the one that
    /// this process lives in.
    pub fn open(netns: &Path) -> Result<PodNet> {
        let failed = |source| Error::Namespace {
            path: netns.into(),
            source,
        };
        let file = File::open(netns).map_err(failed)?;
        let theirs = file.metadata().map_err(failed)?;
        let ours = std::fs::metadata("/proc/self/ns/net").map_err(failed)?;
        if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
            return Err(Error::HostNetwork { path: netns.into() });
        }
        Ok(PodNet {
            file,
            path: netns.into(),
            passes: None,
        })
    }

    /// Let the locks that are made by this handle pass TCP on loopback from and to this port: that
    /// of DMTCP's coordinator, which goes on talking while the pod is locked.
    #[must_use]
    pub fn with_loopback_port(mut self, port: u16) -> PodNet {
        self.passes = Some(port);
        self
    }

    /// Whether `other`, a descriptor of a network namespace, is this one.
    pub(crate) fn is(&self, other: &OwnedFd) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        let theirs = nix::sys::stat::fstat(other)?;
        Ok((ours.dev(), ours.ino()) == (theirs.st_dev, theirs.st_ino))
    }

    /// Run `work` on a thread of its own inside the namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("pod-net".into())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
                        Error::Namespace {
                            path: self.path.clone(),
                            source: errno.into(),
                        }
                    })?;
                    work()
                })
                .map_err(Error::Thread)?;
            thread
                .join()
                .map_err(|_| Error::Thread(io::Error::other("it panicked")))?
        })
    }

    /// The pod's own global addresses: not those of `lo`, not adopted ones. Primary first:
    /// by interface, IPv4 before IPv6, secondary addresses last.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Namespace`].
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        self.inside(|| {
            let mut links = Links::open()?;
            let own: Vec<u32> = links
                .list()?
                .into_iter()
                .filter(|link| !link.loopback && !is_ours(&link.name))
                .map(|link| link.index)
                .collect();
            let mut all = links.addresses()?;
            all.retain(|a| a.global && own.contains(&a.link));
            all.sort_by_key(|a| (a.secondary, a.link, a.ip.is_ipv6()));
            Ok(all.into_iter().map(|a| a.ip).collect())
        })
    }

    /// MTU of the pod's interface: the smallest where it has more than one.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Namespace`].
    pub fn mtu(&self) -> Result<u32> {
        self.inside(|| Links::open()?.pod_mtu())
    }

    /// Switch MPTCP off, so that programs that ask for it (Go's listeners) get plain TCP,
    /// which CRIU can carry. Nothing happens where the kernel has no MPTCP.
    ///
    /// # Errors
    ///
    /// [`Error::Sysctl`], [`Error::Namespace`].
    pub fn disable_mptcp(&self) -> Result<()> {
        self.inside(|| sysctl::write_if_present("net/mptcp/enabled", "0"))
    }

    /// Attach to the TUN of a prepared or adopted pod: non-blocking, one whole IP packet per
    /// read and write. Only one descriptor can be attached; while none is, the kernel drops
    /// the packets for it.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`], [`Error::Tun`] (`EBUSY`: another process is attached).
    pub fn open_tun(&self, device: Tun) -> Result<OwnedFd> {
        self.inside(|| {
            // TUNSETIFF would make a new device where there is none.
            let mut links = Links::open()?;
            if links.find(device.name())?.is_none() {
                return Err(Error::NoDevice);
            }
            let tun = tun::attach(device)?;
            links.wait_running(device.name())?;
            Ok(tun)
        })
    }

    /// How many connections use one of the `old` addresses here: TCP (without listeners and
    /// TIME_WAIT) and connected UDP.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Namespace`].
    pub fn connections(&self, old: &[IpAddr]) -> Result<usize> {
        self.inside(|| Ok(diag::list(old)?.len()))
    }

    /// How much has come for the programs that they have not taken yet: connections that they have not
    /// accepted or that are just being made, and sockets with datagrams that they have not read.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Namespace`].
    pub fn untaken(&self) -> Result<usize> {
        self.inside(diag::untaken)
    }

    /// End the connections that the programs have not accepted, so that their peers hear of it.
    /// Nothing happens where the kernel cannot (CONFIG_INET_DIAG_DESTROY). Returns how many there
    /// were.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Namespace`].
    pub fn reset_untaken(&self) -> Result<usize> {
        self.inside(diag::reset_untaken)
    }

    /// End these connections: the programs see an error, the peers a reset as far as the network
    /// lets it pass. Nothing happens where the kernel cannot (CONFIG_INET_DIAG_DESTROY). Returns
    /// how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Namespace`].
    pub fn reset(&self, old: &[IpAddr]) -> Result<usize> {
        self.inside(|| diag::reset(old))
    }
}

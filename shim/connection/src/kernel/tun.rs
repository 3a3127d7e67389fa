//! The TUN device (kernel doc: networking/tuntap.rst).

use crate::{DEVICE, Error, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

nix::ioctl_write_ptr_bad!(
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    set_persistent,
    nix::request_code_write!(b'T', 203, size_of::<libc::c_int>())
);

/// Attach to `myce0`, making it where it is not there. Non-blocking, bare IP packets.
pub(crate) fn attach() -> Result<OwnedFd> {
    let failed = |what| {
        move |errno: nix::Error| Error::Tun {
            what,
            source: io::Error::from(errno),
        }
    };
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let tun = open("/dev/net/tun", flags, Mode::empty()).map_err(failed("open /dev/net/tun"))?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, the pointer is to a live ifreq with a terminated name.
    unsafe { set_interface(tun.as_raw_fd(), &raw const request) }.map_err(failed("TUNSETIFF"))?;
    Ok(tun)
}

/// Make `myce0` and let it outlive this process.
pub(crate) fn create() -> Result<()> {
    let tun = attach()?;
    // SAFETY: the descriptor is open and attached; the argument is a plain number.
    unsafe { set_persistent(tun.as_raw_fd(), 1) }
        .map(drop)
        .map_err(|errno| Error::Tun {
            what: "TUNSETPERSIST",
            source: errno.into(),
        })
}

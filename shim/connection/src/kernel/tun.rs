//! The TUN device (kernel doc: networking/tuntap.rst).

use crate::{Error, Result, Tun};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

nix::ioctl_write_ptr_bad!(
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);
nix::ioctl_write_int_bad!(
    set_persistent,
    nix::request_code_write!(b'T', 203, size_of::<libc::c_int>())
);

const BUSY_TRIES: u32 = 25;
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Attach to a device, making it where it is not there. Non-blocking, bare IP packets.
pub(crate) fn attach(device: Tun) -> Result<OwnedFd> {
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
    for (to, from) in request.ifr_name.iter_mut().zip(device.name().bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut tries = BUSY_TRIES;
    loop {
        // SAFETY: the descriptor is open, the pointer is to a live ifreq with a terminated name.
        match unsafe { set_interface(tun.as_raw_fd(), &raw const request) } {
            Ok(_) => return Ok(tun),
            // A descriptor that was just closed lives on for a moment in a child process that
            // another thread has started and that has not yet run exec.
            Err(nix::Error::EBUSY) if tries > 0 => {
                tries -= 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(errno) => return Err(failed("TUNSETIFF")(errno)),
        }
    }
}

/// Make a device where it is not there, and let it outlive this process. The descriptor keeps
/// the device's carrier up; there is none if another process is attached.
pub(crate) fn create(device: Tun) -> Result<Option<OwnedFd>> {
    let tun = match attach(device) {
        Err(Error::Tun { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
            return Ok(None);
        }
        other => other?,
    };
    // SAFETY: the descriptor is open and attached; the argument is a plain number.
    unsafe { set_persistent(tun.as_raw_fd(), 1) }.map_err(|errno| Error::Tun {
        what: "TUNSETPERSIST",
        source: errno.into(),
    })?;
    Ok(Some(tun))
}

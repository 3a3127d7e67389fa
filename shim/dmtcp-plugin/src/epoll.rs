//! What epoll instances watch, as the kernel knows it.
//!
//! DMTCP registers again after a restart what it has seen registered. It does not see that the
//! kernel forgets a descriptor when it is closed, nor that a one-shot registration has fired; the
//! number may be another socket's by now. So the truth is noted at the checkpoint
//! (`/proc/self/fdinfo`) and compared after DMTCP is done.

use crate::sockets::each_descriptor;
use crate::sys;
use core::ffi::c_int;
use std::vec::Vec;

/// One descriptor that an epoll instance watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) epoll: c_int,
    pub(crate) fd: c_int,
    pub(crate) events: u32,
    pub(crate) data: u64,
    /// The number means the same file to this process as to the one that registered it.
    pub(crate) ours: bool,
}

/// A file name below /proc/self with a descriptor's number.
struct Path([u8; 40]);

impl Path {
    fn new(folder: &[u8], fd: c_int) -> Option<Path> {
        let mut path = [0; 40];
        let mut digits = [0; 10];
        let mut at = digits.len();
        let mut rest = u32::try_from(fd).ok()?;
        loop {
            at -= 1;
            *digits.get_mut(at)? = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let number = digits.get(at..)?;
        path.get_mut(..folder.len())?.copy_from_slice(folder);
        path.get_mut(folder.len()..folder.len() + number.len())?
            .copy_from_slice(number);
        Some(Path(path))
    }

    fn as_c_str(&self) -> Option<&std::ffi::CStr> {
        std::ffi::CStr::from_bytes_until_nul(&self.0).ok()
    }
}

/// All that this process's epoll instances watch.
pub(crate) fn list(into: &mut Vec<Watch>) {
    into.clear();
    let mut text = Vec::new();
    // A process without /proc has no watches that could be known.
    let _ = each_descriptor(|fd| {
        if is_epoll(fd) && read_info(fd, &mut text).is_some() {
            into.extend(
                text.split(|byte| *byte == b'\n')
                    .filter_map(|line| watch(fd, line)),
            );
        }
    });
}

/// Put right where what is registered differs from `wanted`.
pub(crate) fn correct(wanted: &[Watch]) {
    let mut found = Vec::new();
    list(&mut found);
    for stale in found
        .iter()
        .filter(|f| f.ours && !wanted.iter().any(|w| same(w, f)))
    {
        let _ = control(libc::EPOLL_CTL_DEL, stale);
    }
    for watch in wanted.iter().filter(|w| w.ours) {
        match found.iter().find(|f| same(watch, f)) {
            None => {
                let _ = control(libc::EPOLL_CTL_ADD, watch);
            }
            Some(there) if (there.events, there.data) != (watch.events, watch.data) => {
                let _ = control(libc::EPOLL_CTL_DEL, watch);
                let _ = control(libc::EPOLL_CTL_ADD, watch);
            }
            Some(_) => {}
        }
    }
}

fn same(one: &Watch, other: &Watch) -> bool {
    (one.epoll, one.fd) == (other.epoll, other.fd)
}

fn is_epoll(fd: c_int) -> bool {
    let mut target = [0; 32];
    Path::new(b"/proc/self/fd/", fd)
        .as_ref()
        .and_then(Path::as_c_str)
        .is_some_and(|path| {
            sys::readlink(path, &mut target) == Ok(b"anon_inode:[eventpoll]".as_slice())
        })
}

fn read_info(fd: c_int, into: &mut Vec<u8>) -> Option<()> {
    into.clear();
    let path = Path::new(b"/proc/self/fdinfo/", fd)?;
    let file = sys::open(path.as_c_str()?, libc::O_RDONLY | libc::O_CLOEXEC).ok()?;
    let mut part = [0; 4096];
    loop {
        match sys::read(&file, &mut part).ok()? {
            0 => return Some(()),
            length => into.extend_from_slice(part.get(..length)?),
        }
    }
}

/// A line such as `tfd:        5 events:       19 data:                5  pos:0 ino:2b1 sdev:8`
/// (proc_pid_fdinfo(5)): decimal, then hexadecimal numbers.
fn watch(epoll: c_int, line: &[u8]) -> Option<Watch> {
    let line = core::str::from_utf8(line).ok()?.strip_prefix("tfd:")?;
    let after = |key: &str| {
        let (_, rest) = line.split_once(key)?;
        rest.split_ascii_whitespace().next()
    };
    let fd = line.split_ascii_whitespace().next()?.parse().ok()?;
    let inode = after("ino:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    Some(Watch {
        epoll,
        fd,
        events: u32::from_str_radix(after("events:")?, 16).ok()?,
        data: u64::from_str_radix(after("data:")?, 16).ok()?,
        ours: inode.is_none_or(|inode| inode == sys::inode(fd)),
    })
}

fn control(operation: c_int, watch: &Watch) -> sys::Result<()> {
    let event = libc::epoll_event {
        events: watch.events,
        u64: watch.data,
    };
    let arguments = [
        watch.epoll as usize,
        operation as usize,
        watch.fd as usize,
        sys::address(&raw const event),
        0,
        0,
    ];
    // SAFETY: the pointer is to a live epoll_event.
    sys::check(unsafe { sys::call(libc::SYS_epoll_ctl, arguments) }).map(drop)
}

#[cfg(test)]
#[path = "epoll_tests.rs"]
mod tests;

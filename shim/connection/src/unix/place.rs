//! Which process has a socket open, and getting hold of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A container of the pod.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Whether its sockets can be carried by the engine that asks.
    pub movable: bool,
}

/// A process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid here.
    pub pid: i32,
    /// Its pid in the container, which it keeps.
    pub inner: i32,
}

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The process.
    pub process: Process,
    /// The descriptor's number.
    pub fd: i32,
}

impl Place {
    /// A descriptor of the same open socket, pidfd_getfd(2). The process does not notice, and need
    /// not run.
    pub(super) fn descriptor(self) -> io::Result<OwnedFd> {
        descriptor(self.process.pid, self.fd)
    }
}

/// As [`Place::descriptor`].
pub(super) fn descriptor(pid: i32, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: takes numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// The sockets, by inode, that processes have open. Those that end meanwhile have none.
pub(super) fn open_sockets(processes: &[Process]) -> BTreeMap<u32, Place> {
    let mut open = BTreeMap::new();
    for process in processes {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let inode = target.to_str().and_then(inode_of);
            let fd = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let (Some(inode), Some(fd)) = (inode, fd) {
                let process = *process;
                open.entry(inode).or_insert(Place { process, fd });
            }
        }
    }
    open
}

/// From what a descriptor's link shows.
fn inode_of(target: &str) -> Option<u32> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

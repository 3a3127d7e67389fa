//! The ends of a pod's connections between containers, from before its restore until it can run.

use super::cut::Link;
use super::make::{self, End, Made};
use super::queue;
use super::record::{self, Bound, Saved, SocketFile};
use super::server::{self, Server};
use super::{Kind, place};
use crate::{Error, PodNet, Result};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{UnixAddr, bind, connect, getsockname};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Pid here of a restored process, by its container's name and the pid that it has in there.
pub type Locate<'a> = &'a dyn Fn(&str, i32) -> Option<i32>;

/// Ends that were made and wait for their containers. Dropped, they are closed, but for those that a
/// container has.
#[derive(Debug)]
pub struct Ends {
    // Before `made`: its thread must end first.
    server: Server,
    made: Arc<Mutex<Made>>,
}

impl Ends {
    /// Makes the ends of connections between the containers with these names, inside their pod's
    /// network namespace.
    ///
    /// # Errors
    ///
    /// [`Error::End`]: also when the ends do not fit together. [`Error::Namespace`].
    pub fn make(net: &PodNet, images: Vec<(String, Saved)>) -> Result<Self> {
        let (made, listener) = net.inside(move || {
            let made = make::make(images)?;
            let listener = server::listener().map_err(Error::end("listen for", 0))?;
            Ok((made, listener))
        })?;
        let made = Arc::new(Mutex::new(made));
        let server = Server::start(listener, made.clone()).map_err(Error::end("listen for", 0))?;
        Ok(Self { server, made })
    }

    /// The abstract name, without its leading zero, at which the restore of a container asks for
    /// its ends.
    pub fn name(&self) -> &str {
        self.server.name()
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All containers are restored and none has run: gives datagram sockets their names, connects
    /// them, and sends them what was not read.
    ///
    /// # Errors
    ///
    /// [`Error::End`]. Then the pod is not whole and must not run.
    pub fn finish(&self, locate: Locate) -> Result<()> {
        let made = self.made();
        if let Some((inode, (container, _))) = made.iter().find(|(_, (_, end))| !end.claimed) {
            let missing = format!("container {container} was restored without it");
            return Err(Error::end("hand over", *inode)(io::Error::other(missing)));
        }
        let all = || {
            made.iter()
                .map(|(inode, (container, end))| (*inode, container, end))
        };
        for (inode, container, end) in all() {
            if let Some(bound) = &end.half.bound {
                process(locate, container, end.half.inner)
                    .and_then(|pid| give_name(&end.fd, bound, pid))
                    .map_err(Error::end("give a name to", inode))?;
            }
        }
        let mut receivers = BTreeMap::new();
        for (inode, _, end) in all() {
            if let Link::Receiver {
                container,
                inner,
                fd,
            } = &end.half.link
            {
                let receiver = process(locate, container, *inner)
                    .and_then(|pid| place::descriptor(pid, *fd))
                    .and_then(|receiver| {
                        connect_to(&end.fd, &receiver)?;
                        Ok(receiver)
                    })
                    .map_err(Error::end("connect", inode))?;
                receivers.insert(inode, receiver);
            }
        }
        for (inode, _, end) in all() {
            send_later(end, inode, &receivers, &made).map_err(Error::end("fill", inode))?;
        }
        Ok(())
    }
}

/// Sends to an end what was not read there, from its other end.
fn send_later(
    end: &End,
    inode: u32,
    receivers: &BTreeMap<u32, OwnedFd>,
    made: &Made,
) -> io::Result<()> {
    if end.later.is_empty() {
        return Ok(());
    }
    debug_assert_eq!(end.half.kind, Kind::Datagram);
    if let Some(receiver) = receivers.get(&inode) {
        return named(&end.fd, |to| queue::fill(receiver, &end.later, Some(to)));
    }
    let (_, peer) = made
        .get(&end.half.peer)
        .ok_or_else(|| io::Error::other("its other end is missing"))?;
    queue::fill(&peer.fd, &end.later, None)
}

fn process(locate: Locate, container: &str, inner: i32) -> io::Result<i32> {
    locate(container, inner)
        .ok_or_else(|| io::Error::other(format!("container {container} has no process {inner}")))
}

fn connect_to(socket: &OwnedFd, receiver: &OwnedFd) -> io::Result<()> {
    named(receiver, |address| {
        Ok(connect(socket.as_raw_fd(), address)?)
    })
}

/// Works with an address of a socket that has a name. A path is only good in the mounts of its
/// process, and may be gone; that of a descriptor of the same file always leads there.
fn named<T>(socket: &OwnedFd, work: impl FnOnce(&UnixAddr) -> io::Result<T>) -> io::Result<T> {
    let address: UnixAddr = getsockname(socket.as_raw_fd())?;
    if address.as_abstract().is_some() {
        return work(&address);
    }
    if address.path().is_none() {
        return Err(io::Error::other("it has no name to send to"));
    }
    let file = record::file(socket)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    work(&UnixAddr::new(path.as_str())?)
}

fn give_name(socket: &OwnedFd, bound: &Bound, pid: i32) -> io::Result<()> {
    let Some(file) = &bound.file else {
        let name = bound.name.get(1..).unwrap_or_default();
        return Ok(bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name)?)?);
    };
    let path = Path::new(OsStr::from_bytes(&bound.name));
    let address = UnixAddr::new(path)?;
    let mounts = File::open(format!("/proc/{pid}/ns/mnt"))?;
    let folder = file.folder.as_deref();
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("bind".into())
            .stack_size(128 << 10)
            .spawn_scoped(scope, || {
                // With a root and a working directory of its own this thread, which ends after it, can
                // enter the container's mounts.
                unshare(CloneFlags::CLONE_FS)?;
                setns(&mounts, CloneFlags::CLONE_NEWNS)?;
                bind_inside(socket, &address, path, folder, file)
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a helper thread ended")))
    })?;
    let bound = record::file(socket)?;
    let path = format!("/proc/self/fd/{}", bound.as_raw_fd());
    chown(&path, Some(file.owner), Some(file.group))?;
    fs::set_permissions(&path, Permissions::from_mode(file.mode))
}

/// Makes the socket's file. Where one of an earlier time is left it is replaced, as long as it is a
/// socket.
fn bind_inside(
    socket: &OwnedFd,
    address: &UnixAddr,
    path: &Path,
    folder: Option<&[u8]>,
    file: &SocketFile,
) -> io::Result<()> {
    if let Some(folder) = folder {
        nix::unistd::chdir(Path::new(OsStr::from_bytes(folder)))?;
    }
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    bind(socket.as_raw_fd(), address)?;
    if file.removed {
        fs::remove_file(path)?;
    }
    Ok(())
}

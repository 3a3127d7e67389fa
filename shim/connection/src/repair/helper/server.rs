//! The listening socket: who may talk.

use super::Shared;
use super::session::Session;
use crate::{Error, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt,
    listen, shutdown, socket, sockopt,
};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::{fs, thread};

/// Most processes at one time.
const MOST: usize = 4096;

/// A thread is needed for each process, and does little.
const STACK: usize = 256 << 10;

/// Listens until it is dropped.
pub(super) struct Listener {
    socket: Arc<OwnedFd>,
    path: PathBuf,
    connections: Arc<Connections>,
}

/// Numbers of sessions are not used again.
static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
struct Connections {
    count: AtomicUsize,
    open: std::sync::Mutex<Vec<std::sync::Weak<OwnedFd>>>,
}

impl Listener {
    pub(super) fn start(path: &Path, shared: &Arc<Shared>) -> Result<Listener> {
        let failed = |source: io::Error| Error::Helper {
            path: path.into(),
            source,
        };
        let (fd, path_) = (open(path).map_err(failed)?, path.to_owned());
        let listener = Listener {
            socket: Arc::new(fd),
            path: path_,
            connections: Arc::default(),
        };
        let (socket, connections) = (listener.socket.clone(), listener.connections.clone());
        let shared = shared.clone();
        thread::Builder::new()
            .name("sockets".into())
            .spawn(move || serve(&socket, &connections, &shared))
            .map_err(failed)?;
        Ok(listener)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Wakes the thread, whose accept fails from now on.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let open = self.connections.open.lock();
        for connection in open.iter().flat_map(|all| all.iter()) {
            if let Some(connection) = connection.upgrade() {
                let _ = shutdown(connection.as_raw_fd(), Shutdown::Both);
            }
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    // A bundle's path is longer than the 107 bytes that an address has room for (unix(7)).
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => (fs::File::open(folder)?, Path::new(name)),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    bind(fd.as_raw_fd(), &UnixAddr::new(&short.join(name))?)?;
    // The container's programs run as any user; who they are is asked of the kernel.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    listen(&fd, Backlog::MAXALLOWABLE)?;
    Ok(fd)
}

fn serve(listener: &OwnedFd, connections: &Arc<Connections>, shared: &Arc<Shared>) {
    loop {
        let accepted = match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: just opened, nobody else's.
            Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
            Err(nix::Error::EINTR | nix::Error::ECONNABORTED) => continue,
            Err(nix::Error::EMFILE | nix::Error::ENFILE | nix::Error::ENOMEM) => {
                thread::sleep(std::time::Duration::from_millis(50));
                continue;
            }
            // Shut down.
            Err(_) => return,
        };
        let Some(pid) = admitted(&accepted, shared) else {
            continue;
        };
        if connections.count.fetch_add(1, Ordering::SeqCst) >= MOST {
            connections.count.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(
                pid,
                "more than {MOST} processes ask for their sockets; turned away"
            );
            continue;
        }
        let accepted = Arc::new(accepted);
        if let Ok(mut open) = connections.open.lock() {
            open.retain(|connection| connection.strong_count() > 0);
            open.push(Arc::downgrade(&accepted));
        }
        let id = NEXT.fetch_add(1, Ordering::SeqCst);
        let session = Session::new(id, pid, accepted, shared.clone());
        let counted = connections.clone();
        let started = thread::Builder::new()
            .name(format!("sockets-{id}"))
            .stack_size(STACK)
            .spawn(move || {
                session.run();
                counted.count.fetch_sub(1, Ordering::SeqCst);
            });
        if let Err(error) = started {
            connections.count.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(pid, %error, "no thread for a process's sockets");
        }
    }
}

/// The peer's pid, if it is one of the pod's processes.
fn admitted(connection: &OwnedFd, shared: &Shared) -> Option<i32> {
    let pid = getsockopt(connection, sockopt::PeerCredentials).ok()?.pid();
    let belongs = (shared.options.belongs)(pid);
    if !belongs {
        tracing::warn!(
            pid,
            "a process that is not of this pod asks for sockets; turned away"
        );
    }
    belongs.then_some(pid)
}

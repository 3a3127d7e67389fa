//! The daemon's sockets: own ones, or those that systemd passes; and the lock against a second
//! daemon.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::net;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname};

use crate::error::{Error, Result};

/// Sockets that systemd passed (sd_listen_fds(3)).
#[derive(Debug, Default)]
pub struct Passed {
    /// For other nodes.
    pub tcp: Option<net::TcpListener>,
    /// For shims.
    pub unix: Option<UnixListener>,
}

/// Takes what systemd passed; nothing without socket activation.
pub fn passed() -> Result<Passed> {
    let failed = |error: io::Error| Error::Failed(format!("sockets from systemd: {error}"));
    let mut passed = Passed::default();
    for fd in sd_notify::listen_fds().map_err(failed)? {
        // SAFETY: systemd passed this descriptor to this process for it to own, and
        // `listen_fds` yields each once.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let family = getsockname::<SockaddrStorage>(fd.as_raw_fd())
            .map_err(|error| failed(error.into()))?
            .family();
        match family {
            Some(AddressFamily::Inet | AddressFamily::Inet6) => {
                let listener = net::TcpListener::from(fd);
                listener.set_nonblocking(true).map_err(failed)?;
                passed.tcp = Some(listener);
            }
            Some(AddressFamily::Unix) => {
                let listener = UnixListener::from(fd);
                listener.set_nonblocking(true).map_err(failed)?;
                passed.unix = Some(listener);
            }
            other => {
                return Err(Error::Failed(format!(
                    "systemd passed a socket of family {other:?}: ListenStream= must be the TCP \
                     address or the path of node.sock"
                )));
            }
        }
    }
    Ok(passed)
}

/// Listens on `path`, mode 0600. What a dead daemon left there is removed; a living one is an
/// error.
pub async fn listen(path: &Path) -> Result<UnixListener> {
    if path.exists() {
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(Error::Refused(format!(
                "something answers on {} already: is another `mycedrive serve` running?",
                path.display()
            )));
        }
        fs::remove_file(path).map_err(Error::io("cannot remove the stale socket", path))?;
    }
    let listener = UnixListener::bind(path).map_err(Error::io("cannot listen on", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(Error::io("cannot listen on", path))?;
    Ok(listener)
}

/// For ttrpc's server.
pub fn for_ttrpc(listener: UnixListener) -> Result<ttrpc::r#async::transport::Listener> {
    tokio::net::UnixListener::from_std(listener)
        .map(Into::into)
        .map_err(|error| Error::Failed(format!("node socket: {error}")))
}

/// Two daemons on one set of journals could decide one migration in two ways. The lock goes
/// with the process.
pub fn lock(state_dir: &Path) -> Result<Flock<File>> {
    let path = state_dir.join("daemon.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io("cannot open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        Error::Refused(format!(
            "{} is locked: another `mycedrive serve` uses this state folder",
            path.display()
        ))
    })
}

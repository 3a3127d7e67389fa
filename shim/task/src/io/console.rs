//! Terminals: runc opens one in the container and sends its master over a unix socket.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::Interest;

use super::copy::{Terminal, terminal};
use crate::error::{Error, Result};

/// A socket that waits for runc. Its directory is removed with it.
pub struct ConsoleSocket {
    directory: PathBuf,
    path: PathBuf,
    listener: UnixListener,
}

/// A terminal of a process.
pub struct Console {
    terminal: Terminal,
}

impl ConsoleSocket {
    pub fn new() -> Result<Self> {
        // Not in the bundle: its path is longer than a socket address may be.
        let base = if Path::new("/run").is_dir() {
            PathBuf::from("/run")
        } else {
            std::env::temp_dir()
        };
        let template = base.join("mycedrive-pty-XXXXXX");
        let directory = nix::unistd::mkdtemp(&template)
            .map_err(Error::path("make a directory like", &template))?;
        let path = directory.join("s");
        let listener = UnixListener::bind(&path)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(Error::path("listen on", &path))?;
        Ok(Self {
            directory,
            path,
            listener,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the master of the terminal.
    pub async fn receive(self) -> Result<Console> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let failed = |error| Error::io("receive the terminal from runc")(error);
        let listener = self
            .listener
            .try_clone()
            .and_then(tokio::net::UnixListener::from_std)
            .map_err(failed)?;
        let receive = async {
            let (stream, _) = listener.accept().await?;
            stream
                .async_io(Interest::READABLE, || receive_fd(stream.as_raw_fd()))
                .await
        };
        let fd = tokio::time::timeout(PATIENCE, receive)
            .await
            .map_err(|_| {
                Error::Precondition("runc did not send the terminal within 10 s".to_owned())
            })?
            .map_err(failed)?;
        Ok(Console {
            terminal: terminal(fd).map_err(failed)?,
        })
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn receive_fd(socket: i32) -> std::io::Result<OwnedFd> {
    let mut bytes = [0; 4096];
    let mut data = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(
        socket,
        &mut data,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(&fd) = fds.first()
        {
            // SAFETY: the kernel has just installed this descriptor for us; nobody else knows
            // it. The buffer has room for one only.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(std::io::Error::other("no descriptor in the message"))
}

impl Console {
    pub fn terminal(&self) -> Terminal {
        self.terminal.clone()
    }

    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let size = libc::winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let fd = self.terminal.get_ref().as_raw_fd();
        // SAFETY: `fd` is open as long as `self.terminal` lives, and TIOCSWINSZ only reads the
        // winsize it is given.
        let result = unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) };
        if result < 0 {
            return Err(Error::io("resize the terminal")(
                std::io::Error::last_os_error(),
            ));
        }
        Ok(())
    }
}

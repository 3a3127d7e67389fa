//! Copies one stream.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tracing::debug;

/// The shim's side of a pseudo-terminal.
pub type Terminal = Arc<AsyncFd<File>>;

/// Where bytes come from.
pub enum Source {
    Pipe(pipe::Receiver),
    Terminal(Terminal),
}

/// Where bytes go.
pub enum Sink {
    Pipe(pipe::Sender),
    Terminal(Terminal),
    File(Arc<File>),
}

/// A terminal that tokio can wait for.
pub fn terminal(fd: OwnedFd) -> io::Result<Terminal> {
    let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL)?;
    let flags = nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    // SAFETY: a `File` keeps its descriptor open until it is dropped, and always names the same
    // one.
    let terminal = unsafe { AsyncFd::register(File::from(fd)) }?;
    Ok(Arc::new(terminal))
}

impl Source {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.read(buffer).await,
            Self::Terminal(terminal) => {
                let read = terminal
                    .async_io(tokio::io::Interest::READABLE, |mut file| file.read(buffer))
                    .await;
                match read {
                    // So the kernel tells that no process has the terminal open any more.
                    Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(0),
                    other => other,
                }
            }
        }
    }
}

impl Sink {
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::File(file) => (&**file).write_all(bytes),
            Self::Terminal(terminal) => {
                while !bytes.is_empty() {
                    let written = terminal
                        .async_io(tokio::io::Interest::WRITABLE, |mut file| file.write(bytes))
                        .await?;
                    bytes = &bytes[written..];
                }
                Ok(())
            }
        }
    }

    /// The same sink for a second stream, if it is a file.
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::File(file) => Some(Self::File(file.clone())),
            Self::Pipe(_) | Self::Terminal(_) => None,
        }
    }
}

/// Copies until either side ends.
pub async fn copy(mut source: Source, mut sink: Sink) {
    const BUFFER: usize = 16 * 1024;
    let mut buffer = vec![0; BUFFER];
    loop {
        let step = match source.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => sink.write_all(&buffer[..length]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = step {
            debug!(%error, "a stream ended");
            return;
        }
    }
}

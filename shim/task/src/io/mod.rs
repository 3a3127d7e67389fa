//! Standard streams of a process.
//!
//! The process gets pipes or a terminal, never containerd's FIFOs themselves: so a reader that
//! goes away does not break the process, and CRIU finds pipes that it can dump. The shim copies
//! between the two.

mod console;
mod copy;
mod logger;

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Uid, fchown};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tracing::debug;

use self::console::{Console, ConsoleSocket};
use self::copy::{Sink, Source, copy};
use self::logger::Logger;
use crate::error::{Error, Result};
use crate::runc::Streams;

/// Where containerd wants the streams of a process: paths of FIFOs or files, or URIs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Path of the FIFO for standard input; may be empty.
    pub stdin: String,
    /// Path or URI for standard output; may be empty.
    pub stdout: String,
    /// Path or URI for standard error; may be empty. Unused with a terminal.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// What the output goes to, by the URI's scheme.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    None,
    Fifo(&'a Path),
    File(&'a Path),
    Binary(&'a str),
}

impl<'a> Target<'a> {
    fn parse(uri: &'a str) -> Result<Self> {
        match uri.split_once("://") {
            None if uri.is_empty() => Ok(Self::None),
            None => Ok(Self::Fifo(Path::new(uri))),
            Some(("fifo", path)) => Ok(Self::Fifo(Path::new(path))),
            Some(("file", path)) => Ok(Self::File(Path::new(path))),
            Some(("binary", _)) => Ok(Self::Binary(uri)),
            Some((scheme, _)) => Err(Error::Invalid(format!(
                "stdio {uri}: unknown scheme {scheme}; use a FIFO, file:// or binary://"
            ))),
        }
    }
}

/// Whose streams: for names of helpers and pipe owners.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Container id.
    pub id: &'a str,
    /// containerd namespace.
    pub namespace: &'a str,
    /// Owner of the pipes (`IoUid`).
    pub uid: u32,
    /// Group of the pipes (`IoGid`).
    pub gid: u32,
}

/// Streams before the process exists.
pub struct Prepared {
    streams: Streams,
    copies: Vec<(Source, Sink)>,
    stdin: Option<(pipe::Receiver, Option<pipe::Sender>)>,
    hold: Option<pipe::Sender>,
    console: Option<ConsoleSocket>,
    stdout: Option<Sink>,
    logger: Option<Logger>,
}

/// Streams of a process that runs.
#[derive(Default)]
pub struct Attached {
    copies: Vec<JoinHandle<()>>,
    stdin: Option<JoinHandle<()>>,
    /// A writer of the stdin FIFO: standard input stays open until `CloseIO`, also when
    /// containerd is restarted.
    hold: Option<pipe::Sender>,
    console: Option<Console>,
    logger: Option<Logger>,
}

/// Opens everything that a process with these streams needs.
pub async fn prepare(stdio: &Stdio, owner: Owner<'_>) -> Result<Prepared> {
    let mut prepared = Prepared {
        streams: Streams::default(),
        copies: Vec::new(),
        stdin: None,
        hold: None,
        console: None,
        stdout: None,
        logger: None,
    };
    if stdio.terminal {
        prepared.console = Some(ConsoleSocket::new()?);
        prepared.stdout = match Target::parse(&stdio.stdout)? {
            Target::None => None,
            Target::Fifo(path) => Some(open_output(path)?),
            Target::File(path) => Some(open_file(path)?),
            Target::Binary(uri) => {
                let (logger, [stdout, _]) = Logger::start(uri, owner).await?;
                prepared.logger = Some(logger);
                Some(Sink::Pipe(
                    pipe::Sender::from_owned_fd(stdout).map_err(Error::io("use a pipe"))?,
                ))
            }
        };
    } else {
        prepare_output(&mut prepared, stdio, owner).await?;
    }
    if !stdio.stdin.is_empty() {
        let (source, hold) = open_input(Path::new(&stdio.stdin))?;
        prepared.hold = Some(hold);
        let sink = if stdio.terminal {
            None
        } else {
            let (read, write) = pair(owner)?;
            prepared.streams.stdin = Some(read);
            Some(pipe::Sender::from_owned_fd(write).map_err(Error::io("use a pipe"))?)
        };
        prepared.stdin = Some((source, sink));
    }
    Ok(prepared)
}

async fn prepare_output(prepared: &mut Prepared, stdio: &Stdio, owner: Owner<'_>) -> Result<()> {
    if let Target::Binary(uri) = Target::parse(&stdio.stdout)? {
        let (logger, [stdout, stderr]) = Logger::start(uri, owner).await?;
        prepared.logger = Some(logger);
        prepared.streams.stdout = Some(stdout);
        prepared.streams.stderr = Some(stderr);
        return Ok(());
    }
    let same = stdio.stdout == stdio.stderr;
    let mut shared: Option<Sink> = None;
    for (uri, is_stdout) in [(&stdio.stdout, true), (&stdio.stderr, false)] {
        let sink = match (Target::parse(uri)?, shared.take()) {
            (Target::None, _) => continue,
            (_, Some(sink)) => sink,
            (Target::Fifo(path), None) => open_output(path)?,
            (Target::File(path), None) => open_file(path)?,
            (Target::Binary(_), None) => {
                return Err(Error::Invalid(format!(
                    "stdio {uri}: a logging program takes both streams; set it as stdout"
                )));
            }
        };
        if same && is_stdout {
            shared = sink.share();
        }
        let (read, write) = pair(owner)?;
        let source = pipe::Receiver::from_owned_fd(read).map_err(Error::io("use a pipe"))?;
        prepared.copies.push((Source::Pipe(source), sink));
        if is_stdout {
            prepared.streams.stdout = Some(write);
        } else {
            prepared.streams.stderr = Some(write);
        }
    }
    Ok(())
}

/// A pipe whose ends belong to the container's user, so that it can open /dev/stdout.
/// Both ends are blocking here; tokio makes its end non-blocking, which is a property of the
/// end alone because the two are different open files.
fn pair(owner: Owner<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Error::io("make a pipe"))?;
    if owner.uid != 0 || owner.gid != 0 {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        for end in [read.as_fd(), write.as_fd()] {
            fchown(end, Some(uid), Some(gid)).map_err(Error::io("change a pipe's owner"))?;
        }
    }
    Ok((read, write))
}

/// Opens the reading end for the copy, and a writer that keeps it from ending.
fn open_input(path: &Path) -> Result<(pipe::Receiver, pipe::Sender)> {
    let source = pipe::OpenOptions::new()
        .open_receiver(path)
        .map_err(Error::path("open standard input", path))?;
    let hold = pipe::OpenOptions::new()
        .open_sender(path)
        .map_err(Error::path("open standard input", path))?;
    Ok((source, hold))
}

/// Opens a FIFO for writing, or a regular file for appending.
fn open_output(path: &Path) -> Result<Sink> {
    let meta = fs::metadata(path).map_err(Error::path("find", path))?;
    if !meta.file_type().is_fifo() {
        return open_file(path);
    }
    // Reading as well, so that it opens without a reader and the process survives one that
    // goes away (containerd is restarted, `ctr` is interrupted).
    let sender = pipe::OpenOptions::new()
        .read_write(true)
        .open_sender(path)
        .map_err(Error::path("open", path))?;
    Ok(Sink::Pipe(sender))
}

/// Keeps the readers of a process's output from seeing its end, as long as the result lives.
/// What is no FIFO has no reader that would see one.
pub fn hold_output(stdio: &Stdio) -> Vec<File> {
    [&stdio.stdout, &stdio.stderr]
        .into_iter()
        .filter_map(|uri| match Target::parse(uri) {
            Ok(Target::Fifo(path)) => OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(path)
                .ok(),
            _ => None,
        })
        .collect()
}

fn open_file(path: &Path) -> Result<Sink> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::path("create", parent))?;
    }
    let file: File = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .map_err(Error::path("open", path))?;
    Ok(Sink::File(Arc::new(file)))
}

impl Prepared {
    /// The ends that the process inherits through runc. To be taken once.
    pub fn take_streams(&mut self) -> Streams {
        std::mem::take(&mut self.streams)
    }

    /// The socket for runc's `--console-socket`, with a terminal.
    pub fn console_socket(&self) -> Option<PathBuf> {
        self.console
            .as_ref()
            .map(|console| console.path().to_owned())
    }

    /// Begins to copy, after runc has made the process.
    pub async fn attach(self) -> Result<Attached> {
        let mut attached = Attached {
            hold: self.hold,
            logger: self.logger,
            ..Attached::default()
        };
        for (source, sink) in self.copies {
            attached.copies.push(tokio::spawn(copy(source, sink)));
        }
        if let Some(socket) = self.console {
            let console = socket.receive().await?;
            if let Some(sink) = self.stdout {
                let source = Source::Terminal(console.terminal());
                attached.copies.push(tokio::spawn(copy(source, sink)));
            }
            if let Some((source, _)) = self.stdin {
                let sink = Sink::Terminal(console.terminal());
                attached.stdin = Some(tokio::spawn(copy(Source::Pipe(source), sink)));
            }
            attached.console = Some(console);
        } else if let Some((source, Some(sink))) = self.stdin {
            attached.stdin = Some(tokio::spawn(copy(Source::Pipe(source), Sink::Pipe(sink))));
        }
        Ok(attached)
    }

    /// Gives everything up: the process was not made.
    pub async fn discard(self) {
        if let Some(logger) = self.logger {
            drop(self.streams);
            logger.stop().await;
        }
    }
}

impl Attached {
    /// Lets standard input end when its other writers have closed it.
    pub fn close_stdin(&mut self) {
        self.hold = None;
    }

    /// Sets the terminal's size. Without a terminal it does nothing.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        match &self.console {
            Some(console) => console.resize(width, height),
            None => Ok(()),
        }
    }

    /// Waits until the output of an ended process has been copied, but not for ever: another
    /// process may have inherited the pipe. Then closes everything.
    pub async fn drain(mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        if let Some(stdin) = self.stdin.take() {
            stdin.abort();
        }
        let copies = std::mem::take(&mut self.copies);
        let stop: Vec<_> = copies.iter().map(JoinHandle::abort_handle).collect();
        let all = async {
            for copy in copies {
                let _ = copy.await;
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            debug!("output is still open after the end of its process");
            for copy in stop {
                copy.abort();
            }
        }
        if let Some(logger) = self.logger.take() {
            logger.stop().await;
        }
    }
}

#[cfg(test)]
mod tests;

//! `binary://PATH?KEY=VALUE`: a program that takes the output of a container.
//!
//! containerd's convention (runtime/v2/logging): descriptor 3 is stdout of the container, 4 its
//! stderr, 5 is to be closed when the program is ready; the query becomes its arguments, and
//! CONTAINER_ID and CONTAINER_NAMESPACE are set.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tracing::warn;

use super::{Owner, pair};
use crate::error::{Error, Result};
use crate::reaper::{self, ExitWatch};

/// A logging program that runs.
pub struct Logger {
    pid: i32,
    exit: ExitWatch,
}

/// The program and its arguments in a `binary://` URI.
fn parse(uri: &str) -> (String, Vec<String>) {
    let rest = uri.strip_prefix("binary://").unwrap_or(uri);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut arguments = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        arguments.push(decode(key));
        if !value.is_empty() {
            arguments.push(decode(value));
        }
    }
    (decode(path), arguments)
}

/// Undoes percent-encoding; `+` is a blank.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Logger {
    /// Starts the program and waits until it is ready. Returns the container's ends of stdout
    /// and stderr.
    pub async fn start(uri: &str, owner: Owner<'_>) -> Result<(Self, [OwnedFd; 2])> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let (program, arguments) = parse(uri);
        let (stdout, stdout_writer) = pair(owner)?;
        let (stderr, stderr_writer) = pair(owner)?;
        let (ready, ready_writer) = pair(owner)?;
        let inherited = [
            stdout.as_raw_fd(),
            stderr.as_raw_fd(),
            ready_writer.as_raw_fd(),
        ];
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("CONTAINER_ID", owner.id)
            .env("CONTAINER_NAMESPACE", owner.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: the closure only calls fcntl and dup2, which are async-signal-safe.
        unsafe {
            command.pre_exec(move || place(inherited));
        }
        let child = command
            .spawn()
            .map_err(Error::io(format!("run the logging program {program}")))?;
        let pid = child.id() as i32;
        let logger = Self {
            pid,
            exit: reaper::watch(pid),
        };
        drop((stdout, stderr, ready_writer));
        let mut ready = pipe::Receiver::from_owned_fd(ready).map_err(Error::io("use a pipe"))?;
        // A byte or the end: both mean ready.
        let waited = tokio::time::timeout(PATIENCE, ready.read(&mut [0; 1])).await;
        if waited.is_err() {
            logger.stop().await;
            return Err(Error::Unavailable(format!(
                "the logging program {program} was not ready within 10 s"
            )));
        }
        Ok((logger, [stdout_writer, stderr_writer]))
    }

    /// Asks it to end, and makes it end.
    pub async fn stop(self) {
        const PATIENCE: Duration = Duration::from_secs(12);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if self.exit.borrow().is_some() {
                return;
            }
            let _ = kill(Pid::from_raw(self.pid), signal);
            let ended = reaper::exited(self.exit.clone());
            if tokio::time::timeout(PATIENCE, ended).await.is_ok() {
                return;
            }
        }
        warn!(pid = self.pid, "a logging program does not end");
    }
}

/// In the child: puts the descriptors at 3, 4 and 5.
fn place(inherited: [RawFd; 3]) -> std::io::Result<()> {
    const FIRST: RawFd = 3;
    const ABOVE: RawFd = 10;
    let check = |result: RawFd| {
        if result < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(result)
        }
    };
    let mut moved = [0; 3];
    for (place, fd) in moved.iter_mut().zip(inherited) {
        // SAFETY: duplicates a descriptor of this process; touches no memory.
        *place = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, ABOVE) })?;
    }
    for (number, fd) in (FIRST..).zip(moved) {
        // SAFETY: as above. What was at 3 to 5 was duplicated above 10 or is close-on-exec.
        check(unsafe { libc::dup2(fd, number) })?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "logger_tests.rs"]
mod tests;

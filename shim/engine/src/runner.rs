//! How commands are run.
//!
//! A containerd shim is a subreaper that collects every child with `waitpid(-1)`; a library that
//! waits for its own children would lose that race. So the shim passes in its way of waiting.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

/// Most that [`output`] reads, in bytes.
const LONGEST_OUTPUT: u64 = 64 << 10;

/// A process that [`Runner::start`] started and that goes on.
#[derive(Debug)]
pub struct Started {
    pid: i32,
    exit: watch::Receiver<Option<i32>>,
}

impl Started {
    /// `exit` holds the exit code (as [`Runner::run`] returns it) once the process has been
    /// collected.
    pub const fn new(pid: i32, exit: watch::Receiver<Option<i32>>) -> Self {
        Self { pid, exit }
    }

    /// Its pid.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Its exit code, once it has ended.
    pub fn ended(&self) -> Option<i32> {
        *self.exit.borrow()
    }

    /// Holds the exit code once there is one.
    pub fn exit(&self) -> watch::Receiver<Option<i32>> {
        self.exit.clone()
    }

    /// Kills it, unless it has ended.
    pub fn kill(&self) {
        if self.ended().is_none() {
            // It has not been collected, so the pid is still its own. That it is a zombie does
            // not matter.
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// Runs a command to its end.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs `command`, whose standard streams are set already, and returns its exit code (128 +
    /// signal number when a signal ended it). One that outlives `limit` is killed and reported
    /// as [`io::ErrorKind::TimedOut`].
    async fn run(&self, command: Command, limit: Duration) -> io::Result<i32>;

    /// Starts `command`, which goes on by itself. To be called on a thread that lives as long as
    /// the program: a command may ask to be killed with the thread that started it.
    fn start(&self, command: Command) -> io::Result<Started>;
}

/// What `command` prints, at most some kilobytes, within `limit`. Its exit code is not looked at.
pub async fn output(
    runner: &dyn Runner,
    mut command: Command,
    limit: Duration,
) -> io::Result<String> {
    // A pipe would need a reader beside the runner; the answer is short.
    let file = memfd_create(c"output", MFdFlags::MFD_CLOEXEC)?;
    let file = fs::File::from(file);
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(Stdio::null());
    runner.run(command, limit).await?;
    // Opened anew, so read from the beginning.
    let file = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let mut text = Vec::new();
    file.take(LONGEST_OUTPUT).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// For programs that do not reap children globally: tests, tools.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardRunner;

#[async_trait]
impl Runner for StandardRunner {
    async fn run(&self, command: Command, limit: Duration) -> io::Result<i32> {
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()?;
        if let Ok(status) = tokio::time::timeout(limit, child.wait()).await {
            return Ok(exit_code(status?));
        }
        child.kill().await?;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not done after {limit:?}"),
        ))
    }

    fn start(&self, command: Command) -> io::Result<Started> {
        let mut child = tokio::process::Command::from(command).spawn()?;
        let pid = child.id().unwrap_or_default() as i32;
        let (sender, exit) = watch::channel(None);
        tokio::spawn(async move {
            let code = child.wait().await.map_or(255, exit_code);
            sender.send_replace(Some(code));
        });
        Ok(Started::new(pid, exit))
    }
}

/// The exit code as a shell would show it.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

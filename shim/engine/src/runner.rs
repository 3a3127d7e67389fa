//! How commands are run.
//!
//! A containerd shim is a subreaper that collects every child with `waitpid(-1)`; a library that
//! waits for its own children would lose that race. So the shim passes in its way of waiting.

use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use async_trait::async_trait;

/// Runs a command to its end.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs `command`, whose standard streams are set already, and returns its exit code (128 +
    /// signal number when a signal ended it). One that outlives `limit` is killed and reported
    /// as [`io::ErrorKind::TimedOut`].
    async fn run(&self, command: Command, limit: Duration) -> io::Result<i32>;
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
}

/// The exit code as a shell would show it.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

//! Runs an engine's commands under the shim's own reaper.

use std::io;
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use mycedrive_engine::Runner;
use mycedrive_engine::runner::Started;
use tokio::sync::watch;

use crate::reaper;

/// Waits by the reaper, which collects every child of the shim.
#[derive(Clone, Copy, Debug)]
pub struct Reaped;

#[async_trait]
impl Runner for Reaped {
    async fn run(&self, mut command: Command, limit: Duration) -> io::Result<i32> {
        let (pid, watch) = {
            // No await between the spawn and the watch: see `reaper`.
            let child = command.spawn()?;
            let pid = child.id() as i32;
            (pid, reaper::watch(pid))
        };
        // The command holds copies of the container's streams.
        drop(command);
        let exit = reaper::exited(watch);
        if let Ok(exit) = tokio::time::timeout(limit, exit).await {
            return Ok(exit.code as i32);
        }
        // SAFETY: kill takes two integers; the process was not reaped, so the pid is still its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not done after {limit:?}"),
        ))
    }

    fn start(&self, mut command: Command) -> io::Result<Started> {
        // No await between the spawn and the watch: see `reaper`.
        let child = command.spawn()?;
        let pid = child.id() as i32;
        let exit = reaper::watch(pid);
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            sender.send_replace(Some(reaper::exited(exit).await.code as i32));
        });
        Ok(Started::new(pid, receiver))
    }
}

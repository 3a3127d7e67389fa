//! Reaps every child of the shim and tells who waits for it.
//!
//! The shim is a sub-reaper: the processes that `runc create` and `runc exec --detach` leave
//! behind become its children when runc ends. Such a process may end before the shim has read
//! its pid from the pid file; an exit that nobody watches for is kept while somebody holds an
//! [`Expecting`], so it is not lost.
//!
//! The runtime has one thread. Between spawning a child and [`watch()`] there is no await, so the
//! exit of a child cannot be seen earlier than its watcher.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::error::{Error, Result};
use crate::state::Exit;

/// Holds the exit once it is known.
pub type ExitWatch = watch::Receiver<Option<Exit>>;

#[derive(Default)]
struct Table {
    watched: HashMap<i32, watch::Sender<Option<Exit>>>,
    unclaimed: HashMap<i32, Exit>,
    expecting: usize,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, exits that nobody watches for yet are kept.
pub struct Expecting(());

/// Announces that a process with a yet unknown pid is about to appear.
pub fn expect() -> Expecting {
    table().expecting += 1;
    Expecting(())
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut table = table();
        table.expecting -= 1;
        if table.expecting == 0 {
            table.unclaimed.clear();
        }
    }
}

/// The exit of `pid`, when it comes or if it has come.
pub fn watch(pid: i32) -> ExitWatch {
    let mut table = table();
    if let Some(exit) = table.unclaimed.remove(&pid) {
        return watch::channel(Some(exit)).1;
    }
    if let Some(sender) = table.watched.get(&pid) {
        return sender.subscribe();
    }
    let (sender, receiver) = watch::channel(None);
    table.watched.insert(pid, sender);
    receiver
}

/// Waits for the exit. A watch whose process was forgotten never ends otherwise, so this
/// reports it as code 255.
pub async fn exited(mut watch: ExitWatch) -> Exit {
    match watch.wait_for(Option::is_some).await {
        Ok(exit) => exit.unwrap_or_else(|| Exit::now(255)),
        Err(_) => Exit::now(255),
    }
}

/// Starts to reap. To be called once, in the server.
pub fn start() -> Result<()> {
    let mut children =
        signal(SignalKind::child()).map_err(Error::io("watch for ended processes"))?;
    tokio::spawn(async move {
        reap();
        while children.recv().await.is_some() {
            reap();
        }
    });
    Ok(())
}

fn reap() {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended(pid.as_raw(), code as u32),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended(pid.as_raw(), 128 + signal as u32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                warn!(%error, "waitpid failed");
                return;
            }
        }
    }
}

fn ended(pid: i32, code: u32) {
    let exit = Exit::now(code);
    let mut table = table();
    if let Some(sender) = table.watched.remove(&pid) {
        sender.send_replace(Some(exit));
    } else if table.expecting > 0 {
        table.unclaimed.insert(pid, exit);
    } else {
        debug!(pid, code, "reaped a process nobody waits for");
    }
}

#[cfg(test)]
#[path = "reaper_tests.rs"]
mod tests;

//! One process that containerd knows: a container's init or an exec.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::io::{Attached, Stdio};
use crate::reaper::ExitWatch;
use crate::state::{Exit, State, Step};

/// A container's init or an exec.
pub struct Process {
    /// Exec id; empty for init.
    pub id: String,
    /// For messages: `container X` or `exec Y of container X`.
    pub name: String,
    /// Where its streams go.
    pub stdio: Stdio,
    /// Held over every operation that changes the process, so that they and their events have
    /// one order. Kill, State and Wait do not take it.
    pub op: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
    ended: watch::Sender<Option<Exit>>,
}

struct Inner {
    state: State,
    pid: i32,
    /// Filled by the reaper: once it holds an exit, `pid` may belong to somebody else.
    reaped: Option<ExitWatch>,
    attached: Option<Attached>,
    /// CloseIO came; clients send it as soon as their input ends, often before Start.
    stdin_closed: bool,
}

impl Process {
    /// A process in `state` with no pid yet.
    pub fn new(id: &str, name: String, stdio: Stdio, state: State) -> Self {
        Self {
            id: id.to_owned(),
            name,
            stdio,
            op: tokio::sync::Mutex::new(()),
            inner: Mutex::new(Inner {
                state,
                pid: 0,
                reaped: None,
                attached: None,
                stdin_closed: false,
            }),
            ended: watch::Sender::new(None),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.inner().state
    }

    /// Takes a step; fails when the state does not allow it.
    pub fn step(&self, step: Step) -> Result<State> {
        let mut inner = self.inner();
        inner.state = inner.state.after(step, &self.name)?;
        Ok(inner.state)
    }

    /// Fails when the state does not allow the step, and changes nothing.
    pub fn allows(&self, step: Step) -> Result<()> {
        self.state().after(step, &self.name).map(|_| ())
    }

    /// Its pid in the shim's pid namespace; 0 when there is no process.
    pub fn pid(&self) -> i32 {
        self.inner().pid
    }

    /// The process exists now.
    pub fn appeared(&self, pid: i32, reaped: ExitWatch, mut attached: Attached) {
        let mut inner = self.inner();
        if inner.stdin_closed {
            attached.close_stdin();
        }
        // An earlier start may have failed.
        self.ended.send_replace(None);
        inner.pid = pid;
        inner.reaped = Some(reaped);
        inner.attached = Some(attached);
    }

    /// The process is none of ours any more (it was discarded or a restore was undone): its
    /// exit will not be reported. Returns its streams, to be drained.
    pub fn forget(&self) -> Option<Attached> {
        let mut inner = self.inner();
        inner.pid = 0;
        inner.reaped = None;
        inner.attached.take()
    }

    /// The watch for its exit, if there is a process.
    pub fn exit_watch(&self) -> Option<ExitWatch> {
        self.inner().reaped.clone()
    }

    /// Takes the streams, to drain them.
    pub fn take_streams(&self) -> Option<Attached> {
        self.inner().attached.take()
    }

    /// Ends standard input.
    pub fn close_stdin(&self) {
        let mut inner = self.inner();
        inner.stdin_closed = true;
        if let Some(attached) = &mut inner.attached {
            attached.close_stdin();
        }
    }

    /// Sets the terminal's size.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        match &self.inner().attached {
            Some(attached) => attached.resize(clamp(width), clamp(height)),
            None => Ok(()),
        }
    }

    /// Sends a signal to the process itself.
    ///
    /// The reaper runs on this very thread, so a pid that it has not reaped is still ours.
    pub fn signal(&self, signal: u32) -> Result<()> {
        let inner = self.inner();
        let finished = || Error::NotFound(format!("{}: process already finished", self.name));
        if inner.pid <= 0 {
            return Err(match inner.state {
                State::Created => Error::Precondition(format!("{}: not started", self.name)),
                _ => finished(),
            });
        }
        if inner
            .reaped
            .as_ref()
            .is_some_and(|exit| exit.borrow().is_some())
        {
            return Err(finished());
        }
        // SAFETY: kill takes two integers and touches no memory.
        if unsafe { libc::kill(inner.pid, signal as i32) } == 0 {
            return Ok(());
        }
        match Errno::last() {
            Errno::ESRCH => Err(finished()),
            error => Err(Error::io(format!("send signal {signal} to {}", self.name))(
                error,
            )),
        }
    }

    /// How it ended, if it did.
    pub fn exit(&self) -> Option<Exit> {
        *self.ended.borrow()
    }

    /// It ended: wakes those who wait.
    pub fn finish(&self, exit: Exit) -> Result<()> {
        self.step(Step::Exit(exit))?;
        self.ended.send_replace(Some(exit));
        Ok(())
    }

    /// Its start failed: those who wait for its end learn that there will be none. It stays
    /// created, and may be started again.
    pub fn start_failed(&self) {
        self.ended.send_replace(Some(Exit::never()));
    }

    /// It was removed: those who still wait get `exit`.
    pub fn removed(&self, exit: Exit) {
        self.ended.send_if_modified(|ended| {
            let wakes = ended.is_none();
            ended.get_or_insert(exit);
            wakes
        });
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Exit {
        crate::reaper::exited(self.ended.subscribe()).await
    }
}

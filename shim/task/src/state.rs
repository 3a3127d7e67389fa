//! The life cycle of a process, as one enum with checked transitions.

use std::time::SystemTime;

use crate::error::{Error, Result};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 + signal.
    pub code: u32,
    /// When the shim learned of it.
    pub at: SystemTime,
}

impl Exit {
    /// An exit with `code`, now.
    pub fn now(code: u32) -> Self {
        Self {
            code,
            at: SystemTime::now(),
        }
    }

    /// The end of what never ran: 0, at no time (protobuf's and the epoch's beginning).
    pub fn never() -> Self {
        Self {
            code: 0,
            at: SystemTime::UNIX_EPOCH,
        }
    }
}

/// Where a process is in its life. An exec only knows Created, Running, Exited and Deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Frozen on request of containerd (Pause).
    Paused,
    /// A destination: nothing was made, its migration decides at Start.
    /// Also after Start, when it waits for the pod's other containers.
    Waiting,
    /// A source, or a destination before RUN: the processes exist and none of them runs.
    Frozen,
    /// The pod runs elsewhere; containerd is told "running" until it kills the container.
    Held,
    /// Ended.
    Exited(Exit),
    /// Removed; nothing may be asked of it any more.
    Deleted,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `runc start`, an exec's start, or a restore that was let go.
    Run,
    /// Pause.
    Pause,
    /// Resume.
    Resume,
    /// A source's freeze, or a restore that stands still before RUN.
    Freeze,
    /// A source's roll-back, or RUN on a destination.
    Thaw,
    /// Wait for the migration (also after an abort on the destination).
    Wait,
    /// The pod runs elsewhere.
    Hold,
    /// It ended.
    Exit(Exit),
    /// It was removed.
    Delete,
}

impl State {
    /// The state after `step`, or why the step is not possible. `who` names the process.
    pub fn after(self, step: Step, who: &str) -> Result<Self> {
        use State::{Created, Deleted, Exited, Frozen, Held, Paused, Running, Waiting};
        match (self, step) {
            (Created | Waiting, Step::Run) | (Paused, Step::Resume) | (Frozen, Step::Thaw) => {
                Ok(Running)
            }
            (Running, Step::Pause) => Ok(Paused),
            (Running | Paused | Waiting, Step::Freeze) => Ok(Frozen),
            (Created | Frozen, Step::Wait) => Ok(Waiting),
            (Created | Waiting | Frozen | Running, Step::Hold) => Ok(Held),
            (Created | Running | Paused | Waiting | Frozen | Held, Step::Exit(exit)) => {
                Ok(Exited(exit))
            }
            (Created | Waiting | Exited(_), Step::Delete) => Ok(Deleted),
            (Deleted, _) => Err(Error::NotFound(who.to_owned())),
            (Exited(_), Step::Exit(_)) => {
                Err(Error::NotFound(format!("{who}: process already finished")))
            }
            _ => Err(Error::State(format!(
                "cannot {} {who}: it is {}",
                step.name(),
                self.name()
            ))),
        }
    }

    /// The word for messages and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting for its migration",
            Self::Frozen => "frozen for a migration",
            Self::Held => "held: it runs on another node",
            Self::Exited(_) => "stopped",
            Self::Deleted => "deleted",
        }
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Wait => "let wait",
            Self::Hold => "hold",
            Self::Exit(_) => "end",
            Self::Delete => "delete",
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

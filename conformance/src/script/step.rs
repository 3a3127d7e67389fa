//! What a script is made of.

use std::fmt;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Sleeps and handles no signal.
    Sleep,
    /// Says `ready`, then ends with 7 on SIGTERM. Has a child.
    Trap,
    /// Writes to both streams and ends with 3.
    Quick,
    /// Copies its input until that ends.
    Cat,
    /// Is not there.
    Missing,
}

impl Program {
    /// What it writes once it does what it does. Until then a signal meets one run at another point than
    /// the other.
    pub fn ready(self) -> Option<&'static str> {
        match self {
            Self::Trap => Some("ready"),
            Self::Cat => Some(super::INPUT),
            Self::Sleep | Self::Quick | Self::Missing => None,
        }
    }

    /// Its arguments.
    pub fn args(self) -> Vec<&'static str> {
        // Not `sleep`: a sleep that CRIU interrupts ends.
        const TRAP: &str =
            "trap 'exit 7' TERM; tail -f /dev/null >/dev/null 2>&1 & echo ready; wait";
        match self {
            Self::Sleep => vec!["/bin/tail", "-f", "/dev/null"],
            Self::Trap => vec!["/bin/sh", "-c", TRAP],
            Self::Quick => vec!["/bin/sh", "-c", "echo out; echo err >&2; exit 3"],
            Self::Cat => vec!["/bin/cat"],
            Self::Missing => vec!["/no/such/program"],
        }
    }
}

/// The container that a script is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// What init does.
    pub program: Program,
    /// With a terminal.
    pub terminal: bool,
    /// With a pid namespace of its own.
    pub own_pids: bool,
}

/// A process of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Its init.
    Init,
    /// The exec of this number.
    Exec(u8),
    /// An exec that is never added.
    Unknown,
}

impl Who {
    /// containerd's exec id.
    pub fn exec_id(self) -> String {
        match self {
            Self::Init => String::new(),
            Self::Exec(number) => format!("e{number}"),
            Self::Unknown => "nobody".to_owned(),
        }
    }
}

/// New resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// 64 MiB of memory.
    Memory,
    /// 50 processes.
    Pids,
    /// CPU shares and quota.
    Cpu,
    /// Nothing is said.
    Nothing,
    /// A CPU that no machine has.
    NoSuchCpu,
    /// Not JSON.
    Garbage,
    /// JSON of another type.
    WrongType,
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the task.
    Create,
    /// Start.
    Start(Who),
    /// Add an exec.
    Exec {
        /// Its number.
        number: u8,
        /// What it does.
        program: Program,
        /// With a terminal.
        terminal: bool,
    },
    /// Add an exec whose process is not JSON.
    GarbageExec(u8),
    /// Kill.
    Kill {
        /// Who gets it.
        who: Who,
        /// Number of the signal.
        signal: u32,
        /// `all` of the request.
        all: bool,
    },
    /// Pause.
    Pause,
    /// Resume.
    Resume,
    /// List the pids.
    Pids,
    /// Update.
    Update(Update),
    /// Wait; not for long if it is not to end.
    Wait(Who),
    /// Delete.
    Delete(Who),
    /// Set the terminal's size.
    Resize(Who),
    /// End standard input.
    CloseIo(Who),
    /// Metrics.
    Metrics,
    /// Checkpoint to a directory.
    Checkpoint {
        /// The task ends with it.
        exit: bool,
    },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => f.write_str("init"),
            _ => f.write_str(&self.exec_id()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => write!(f, "create"),
            Self::Start(who) => write!(f, "start {who}"),
            Self::Exec {
                number,
                program,
                terminal,
            } => {
                let terminal = if *terminal { " with a terminal" } else { "" };
                write!(f, "exec e{number} {program:?}{terminal}")
            }
            Self::GarbageExec(number) => write!(f, "exec e{number} garbage"),
            Self::Kill { who, signal, all } => {
                write!(f, "kill {who} {signal}{}", if *all { " all" } else { "" })
            }
            Self::Pause => write!(f, "pause"),
            Self::Resume => write!(f, "resume"),
            Self::Pids => write!(f, "pids"),
            Self::Update(update) => write!(f, "update {update:?}"),
            Self::Wait(who) => write!(f, "wait {who}"),
            Self::Delete(who) => write!(f, "delete {who}"),
            Self::Resize(who) => write!(f, "resize {who}"),
            Self::CloseIo(who) => write!(f, "close-io {who}"),
            Self::Metrics => write!(f, "metrics"),
            Self::Checkpoint { exit } => {
                write!(f, "checkpoint{}", if *exit { " exit" } else { "" })
            }
        }
    }
}

/// Calls on one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Unique name, which is part of container ids.
    pub name: String,
    /// The container.
    pub setup: Setup,
    /// The calls, in their order.
    pub steps: Vec<Step>,
}

impl Script {
    /// A script that ends as every script must: with nothing left of the task.
    pub fn new(name: impl Into<String>, setup: Setup, mut steps: Vec<Step>) -> Self {
        let mut execs: Vec<u8> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Exec { number, .. } | Step::GarbageExec(number) => Some(*number),
                _ => None,
            })
            .collect();
        execs.sort_unstable();
        execs.dedup();
        steps.push(Step::Resume);
        steps.push(Step::Kill {
            who: Who::Init,
            signal: 9,
            all: true,
        });
        steps.extend(
            execs
                .into_iter()
                .map(|number| Step::Delete(Who::Exec(number))),
        );
        steps.push(Step::Delete(Who::Init));
        Self {
            name: name.into(),
            setup,
            steps,
        }
    }
}

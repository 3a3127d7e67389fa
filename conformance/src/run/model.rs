//! What must follow from a call that was answered with success: which processes end.
//!
//! It knows programs and signals, and nothing of states in which calls are legal: those are what is
//! compared.

use std::collections::BTreeMap;

use crate::accepted::{self, NotCalled};
use crate::script::{Program, Setup, Step, Who};

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Ended.
    Ended,
}

#[derive(Clone, Debug)]
struct Process {
    program: Program,
    terminal: bool,
    life: Life,
    start_failed: bool,
    stdin_closed: bool,
    /// Ends as soon as the container is thawed.
    doomed: bool,
}

/// The container's processes.
pub struct Model {
    setup: Setup,
    /// cgroup v2: what is frozen can be killed.
    unified: bool,
    paused: bool,
    processes: BTreeMap<Who, Process>,
    pids: BTreeMap<u32, String>,
    exits: BTreeMap<Who, usize>,
    deletes: usize,
}

impl Model {
    /// No process yet.
    pub fn new(setup: Setup, unified: bool) -> Self {
        Self {
            setup,
            unified,
            paused: false,
            processes: BTreeMap::new(),
            pids: BTreeMap::new(),
            exits: BTreeMap::new(),
            deletes: 0,
        }
    }

    /// Create or Exec was answered with success.
    pub fn created(&mut self, who: Who, program: Program, terminal: bool) {
        if who == Who::Init {
            self.processes.clear();
            self.paused = false;
        }
        let process = Process {
            program,
            terminal,
            life: Life::Created,
            start_failed: false,
            stdin_closed: false,
            doomed: false,
        };
        self.processes.insert(who, process);
    }

    /// This is the pid of a process.
    pub fn pid(&mut self, who: Who, pid: u32) {
        if pid != 0 {
            self.pids.insert(pid, who.to_string());
        }
    }

    /// A name for a pid that is the same in every run.
    pub fn label(&self, pid: u32) -> String {
        match pid {
            0 => "0".to_owned(),
            _ => self
                .pids
                .get(&pid)
                .cloned()
                .unwrap_or_else(|| "other".to_owned()),
        }
    }

    /// Processes that were made and not deleted.
    pub fn known(&self) -> Vec<Who> {
        self.processes.keys().copied().collect()
    }

    /// Where a process is; `None` if it is not there.
    pub fn life(&self, who: Who) -> Option<Life> {
        self.processes.get(&who).map(|process| process.life)
    }

    /// What a process does.
    pub fn program(&self, who: Who) -> Option<Program> {
        self.processes.get(&who).map(|process| process.program)
    }

    /// Whether a process has a terminal.
    pub fn terminal(&self, who: Who) -> bool {
        self.processes
            .get(&who)
            .is_some_and(|process| process.terminal)
    }

    /// How often it has ended so far.
    pub fn exits(&self, who: Who) -> usize {
        self.exits.get(&who).copied().unwrap_or(0)
    }

    /// How often the task was deleted.
    pub fn deletes(&self) -> usize {
        self.deletes
    }

    /// Will a Wait come back at once?
    pub fn ends(&self, who: Who) -> bool {
        self.processes
            .get(&who)
            .is_none_or(|process| process.life == Life::Ended || process.start_failed)
    }

    /// The container's situation in few words.
    pub fn summary(&self) -> String {
        let words: Vec<String> = self
            .processes
            .iter()
            .map(|(who, process)| match process.life {
                Life::Created if process.start_failed => format!("{who} failed to start"),
                Life::Running if self.paused => format!("{who} paused"),
                Life::Created => format!("{who} created"),
                Life::Running => format!("{who} running"),
                Life::Ended => format!("{who} ended"),
            })
            .collect();
        if words.is_empty() {
            "no task".to_owned()
        } else {
            words.join(", ")
        }
    }

    /// The reason for which a call is not made.
    pub fn harmful(&self, step: Step) -> Option<&'static NotCalled> {
        match step {
            Step::Start(who @ Who::Exec(_)) if self.processes.get(&who)?.start_failed => {
                Some(&accepted::START_AGAIN)
            }
            Step::Start(who @ Who::Exec(_)) if self.life(who)? == Life::Running => {
                Some(&accepted::START_OF_RUNNING)
            }
            Step::CloseIo(who) if self.processes.get(&who)?.terminal => {
                Some(&accepted::CLOSE_TERMINAL)
            }
            Step::CloseIo(who @ Who::Exec(_)) if self.life(who)? == Life::Created => {
                Some(&accepted::CLOSE_EARLY)
            }
            _ => None,
        }
    }

    /// Does the signal end this process, which got it?
    fn fatal(&self, who: Who, process: &Process, signal: u32) -> bool {
        // The kernel drops signals that the first process of a pid namespace does not handle.
        let first = who == Who::Init && self.setup.own_pids;
        match (signal, process.life) {
            // `runc init` is a Go program; its runtime ends on the last three.
            (9, Life::Created | Life::Running) | (1 | 2 | 15, Life::Created) => true,
            (15, Life::Running) if process.program == Program::Trap => true,
            (1 | 2 | 10 | 15, Life::Running) => !first,
            _ => false,
        }
    }

    /// Takes a call and whether it succeeded in; answers with those who end now, init last.
    pub fn after(&mut self, step: Step, ok: bool) -> Vec<Who> {
        if !ok {
            if let Step::Start(who) = step
                && let Some(process) = self.processes.get_mut(&who)
                && process.life == Life::Created
            {
                process.start_failed = true;
            }
            return Vec::new();
        }
        match step {
            Step::Start(who) => {
                let Some(process) = self.processes.get_mut(&who) else {
                    return Vec::new();
                };
                process.life = Life::Running;
                let input_over = process.program == Program::Cat && process.stdin_closed;
                if process.program == Program::Quick || input_over {
                    return self.end(who);
                }
            }
            Step::Kill { who, signal, .. } => {
                let Some(process) = self.processes.get(&who) else {
                    return Vec::new();
                };
                if self.fatal(who, process, signal) {
                    // runc thaws a container whose init it kills.
                    let thaws = signal == 9 && who == Who::Init && !self.unified;
                    if thaws {
                        self.paused = false;
                    }
                    let dies = !self.paused || (signal == 9 && self.unified);
                    return if dies {
                        self.end_with_the_doomed(who)
                    } else {
                        self.doom(who)
                    };
                }
            }
            Step::Pause => self.paused = true,
            Step::Resume => {
                self.paused = false;
                return self.end_doomed();
            }
            Step::CloseIo(who) => {
                let Some(process) = self.processes.get_mut(&who) else {
                    return Vec::new();
                };
                process.stdin_closed = !process.terminal;
                let over = process.program == Program::Cat && process.stdin_closed;
                if over && process.life == Life::Running {
                    return if self.paused {
                        self.doom(who)
                    } else {
                        self.end(who)
                    };
                }
            }
            Step::Checkpoint { exit: true } => return self.end(Who::Init),
            Step::Delete(Who::Init) => {
                self.deletes += 1;
                self.processes.clear();
                self.paused = false;
            }
            Step::Delete(who) => {
                self.processes.remove(&who);
            }
            _ => {}
        }
        Vec::new()
    }

    fn doom(&mut self, who: Who) -> Vec<Who> {
        if let Some(process) = self.processes.get_mut(&who) {
            process.doomed = true;
        }
        Vec::new()
    }

    fn end_doomed(&mut self) -> Vec<Who> {
        let doomed: Vec<Who> = self
            .processes
            .iter()
            .filter(|(_, process)| process.doomed && process.life == Life::Running)
            .map(|(who, _)| *who)
            .collect();
        // Execs first: init takes all with it.
        let mut ended: Vec<Who> = Vec::new();
        for who in doomed.into_iter().rev() {
            ended.extend(self.end(who));
        }
        ended
    }

    fn end_with_the_doomed(&mut self, who: Who) -> Vec<Who> {
        let mut ended = self.end(who);
        if !self.paused {
            ended.extend(self.end_doomed());
        }
        ended
    }

    fn end(&mut self, who: Who) -> Vec<Who> {
        let mut ended = Vec::new();
        if who == Who::Init {
            let running: Vec<Who> = self
                .processes
                .iter()
                .filter(|(other, process)| **other != Who::Init && process.life == Life::Running)
                .map(|(other, _)| *other)
                .collect();
            ended.extend(running);
        }
        ended.push(who);
        for who in &ended {
            if let Some(process) = self.processes.get_mut(who) {
                process.life = Life::Ended;
                *self.exits.entry(*who).or_default() += 1;
            }
        }
        ended
    }
}

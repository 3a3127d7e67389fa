//! Runs a script under one runtime and writes down all that can be seen.

mod calls;
mod fifo;
mod model;
mod trace;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mycedrive_integration::Node;

use crate::api::{Client, Event, Events, Target, code_of};
use crate::bundle;
use crate::script::{Program, Script, Step, Who};
use fifo::Fifo;
use model::{Life, Model};
pub use trace::{Record, Trace};

/// What is certain to come comes within this time, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(20);
/// A Wait for what does not end is given up after this time.
const GLANCE: Duration = Duration::from_millis(200);
/// Where FIFOs and checkpoints are, in the node.
const FILES: &str = "/srv/conformance/files";

/// A runtime that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// containerd's name for it.
    pub name: &'static str,
    /// The containerd namespace of its containers.
    pub namespace: &'static str,
}

/// containerd's own.
pub const REFERENCE: Runtime = Runtime {
    name: "io.containerd.runc.v2",
    namespace: "conformance-runc",
};
/// Ours.
pub const OURS: Runtime = Runtime {
    name: "io.containerd.mycedrive.v2",
    namespace: "conformance-mycedrive",
};

/// A script that is being run.
struct Run<'a> {
    node: &'a Node,
    client: Client,
    events: Events,
    runtime: Runtime,
    script: &'a Script,
    id: String,
    directory: String,
    model: Model,
    /// FIFOs of every process that was ever made, in their order.
    fifos: Vec<(String, Fifo)>,
    /// The last of each process's.
    current: BTreeMap<Who, usize>,
    stdin: BTreeMap<Who, Fifo>,
    checkpoints: u32,
}

/// Runs a script; the node is left as it was.
pub fn run(node: &Node, runtime: Runtime, script: &Script) -> Result<Trace> {
    let client = Client::connect(node, runtime.namespace)?;
    let id = script.name.clone();
    let directory = format!("{FILES}/{}/{id}", runtime.namespace);
    std::fs::create_dir_all(node.path(&directory))?;
    client
        .create_container(
            &id,
            runtime.name,
            bundle::spec(script.setup, runtime.namespace, &id),
        )
        .with_context(|| format!("cannot make container {id}"))?;
    let unified = node.path("/sys/fs/cgroup/cgroup.controllers").exists();
    let mut run = Run {
        node,
        events: client.subscribe(&format!("{id}-probe"))?,
        client,
        runtime,
        script,
        model: Model::new(script.setup, unified),
        id,
        directory,
        fifos: Vec::new(),
        current: BTreeMap::new(),
        stdin: BTreeMap::new(),
        checkpoints: 0,
    };
    let trace = run.all();
    run.clean_up()?;
    trace
}

impl Run<'_> {
    fn all(&mut self) -> Result<Trace> {
        let mut records = Vec::new();
        for step in &self.script.steps {
            records.push(self.one(*step)?);
        }
        let (events, late) = self.events();
        let outputs = self
            .fifos
            .iter_mut()
            .map(|(name, fifo)| format!("{name}: {:?}", fifo.text()))
            .collect();
        Ok(Trace {
            records,
            events,
            late,
            outputs,
        })
    }

    fn one(&mut self, step: Step) -> Result<Record> {
        let before = self.model.summary();
        let not_called = self.model.harmful(step);
        let (answer, message) = match not_called {
            Some(what) => (format!("not called: {}", what.what), String::new()),
            None => match self.call(step)? {
                Ok(text) => (format!("ok {text}").trim_end().to_owned(), String::new()),
                Err(status) => (code_of(&status), status.message().to_owned()),
            },
        };
        let settled = self.settle(step, answer.starts_with("ok"));
        Ok(Record {
            step,
            before,
            not_called,
            answer,
            message,
            after: self.look(settled),
        })
    }

    fn target<'t>(&'t self, exec: &'t str) -> Target<'t> {
        Target {
            container: &self.id,
            exec,
        }
    }

    /// Tells the model, and waits for what must follow. Answers with what did not.
    fn settle(&mut self, step: Step, ok: bool) -> Vec<String> {
        let mut missing = Vec::new();
        let ended = self.model.after(step, ok);
        for who in ended {
            let (id, count) = (self.event_id(who), self.model.exits(who));
            let came = self.events.wait(PATIENCE, |events| {
                let exits = events.iter().filter(|event| {
                    event.topic == "/tasks/exit"
                        && event.container == self.id
                        && event.process == id
                });
                exits.count() >= count
            });
            if !came {
                missing.push(format!("no exit of {who}"));
            }
        }
        if let Step::Start(who) = step
            && ok
            && let Some(text) = self.model.program(who).and_then(Program::ready)
            && !self.wrote(who, text)
        {
            missing.push(format!("{who} is not ready"));
        }
        missing
    }

    fn event_id(&self, who: Who) -> String {
        if who == Who::Init {
            self.id.clone()
        } else {
            who.exec_id()
        }
    }

    fn wrote(&mut self, who: Who, text: &str) -> bool {
        let until = Instant::now() + PATIENCE;
        let Some(number) = self.current.get(&who).copied() else {
            return false;
        };
        // A terminal says its input before the program does.
        let echoed = self.model.program(who) == Some(Program::Cat) && self.model.terminal(who);
        let count = 1 + usize::from(echoed);
        while Instant::now() < until {
            if self.fifos[number].1.text().matches(text).count() >= count {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// States of all processes, as the API says.
    fn look(&self, mut seen: Vec<String>) -> Vec<String> {
        for who in self.model.known() {
            let exec = who.exec_id();
            let text = match self.client.state(self.target(&exec)) {
                Err(status) => code_of(&status),
                Ok(process) => format!(
                    "{:?}, pid {}, exit {}{}, terminal {}, streams {}{}{}",
                    process.status(),
                    self.model.label(process.pid),
                    process.exit_status,
                    time_of(process.exited_at),
                    process.terminal,
                    u8::from(!process.stdin.is_empty()),
                    u8::from(!process.stdout.is_empty()),
                    u8::from(!process.stderr.is_empty()),
                ),
            };
            seen.push(format!("{who}: {text}"));
        }
        seen
    }

    /// The script's events in their order, and how many came after the last delete.
    fn events(&self) -> (Vec<String>, Vec<String>) {
        let wanted = self.model.deletes();
        // runc.v2's shim ends before it has sent its last events, now and then.
        let time = if self.runtime == REFERENCE {
            GLANCE
        } else {
            PATIENCE
        };
        self.events.wait(time, |events| {
            let deletes = events
                .iter()
                .filter(|event| event.topic == "/tasks/delete" && event.container == self.id);
            deletes.count() >= wanted
        });
        let all: Vec<Event> = self
            .events
            .all()
            .into_iter()
            .filter(|event| event.container == self.id)
            .collect();
        trace::canonical(&all, &self.id, |pid| self.model.label(pid))
    }

    fn clean_up(&mut self) -> Result<()> {
        let left = self.client.state(self.target("")).is_ok();
        if left {
            // A defect of the runtime; the next script shall not suffer from it.
            let _ = self.client.resume(&self.id);
            let _ = self.client.kill(self.target(""), 9, true);
            let _ = self.client.wait(self.target(""), PATIENCE);
            let _ = self.client.delete(self.target(""));
        }
        let removed = self.client.delete_container(&self.id);
        let _ = std::fs::remove_dir_all(self.node.path(&self.directory));
        ensure!(
            self.model.life(Who::Init) != Some(Life::Running) || !left,
            "{}: {} left a task",
            self.script.name,
            self.runtime.name
        );
        removed.with_context(|| format!("cannot remove container {}", self.id))
    }
}

fn time_of(at: Option<prost_types::Timestamp>) -> &'static str {
    // Go's zero time is in the year 1.
    match at {
        Some(at) if at.seconds > 0 => " at its time",
        _ => "",
    }
}

//! The calls themselves, and their answers as texts that are the same in every run.

use std::time::{Duration, Instant};

use anyhow::Result;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use super::fifo::Fifo;
use super::{GLANCE, PATIENCE, Run, time_of};
use crate::api::Streams;
use crate::api::proto::containerd::runc::v1::{CheckpointOptions, ProcessDetails};
use crate::bundle;
use crate::script::{Program, Step, Who};

/// What an answer says, or its error.
pub type Answer = std::result::Result<String, Status>;

impl Run<'_> {
    /// Makes a call.
    pub(super) fn call(&mut self, step: Step) -> Result<Answer> {
        Ok(match step {
            Step::Create => self.create()?,
            Step::Exec {
                number,
                program,
                terminal,
            } => self.exec(number, program, terminal)?,
            Step::GarbageExec(number) => {
                let exec = Who::Exec(number).exec_id();
                self.client
                    .exec(
                        self.target(&exec),
                        bundle::garbage_exec(),
                        &Streams::default(),
                    )
                    .map(|()| String::new())
            }
            Step::Start(who) => {
                let answer = self.client.start(self.target(&who.exec_id()));
                if let Ok(pid) = answer {
                    self.model.pid(who, pid);
                    self.executed(pid);
                }
                answer.map(|pid| format!("pid {}", self.model.label(pid)))
            }
            Step::Kill { who, signal, all } => self
                .client
                .kill(self.target(&who.exec_id()), signal, all)
                .map(|()| String::new()),
            Step::Pause => self.client.pause(&self.id).map(|()| String::new()),
            Step::Resume => self.client.resume(&self.id).map(|()| String::new()),
            Step::Pids => self.pids(),
            Step::Update(update) => self
                .client
                .update(&self.id, bundle::resources(update))
                .map(|()| self.limits()),
            Step::Wait(who) => {
                let time = if self.model.ends(who) {
                    PATIENCE
                } else {
                    GLANCE
                };
                match self.client.wait(self.target(&who.exec_id()), time) {
                    Ok(answer) => Ok(format!(
                        "status {}{}",
                        answer.exit_status,
                        time_of(answer.exited_at)
                    )),
                    // Whoever notices it first: we, containerd, or its client of the shim.
                    Err(status)
                        if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
                            || status.message().contains("context deadline exceeded") =>
                    {
                        Ok("waits".to_owned())
                    }
                    Err(status) => Err(status),
                }
            }
            Step::Delete(who) => self
                .client
                .delete(self.target(&who.exec_id()))
                .map(|answer| {
                    format!(
                        "{}, pid {}, status {}{}",
                        answer.id,
                        self.model.label(answer.pid),
                        answer.exit_status,
                        time_of(answer.exited_at)
                    )
                }),
            Step::Resize(who) => self
                .client
                .resize(self.target(&who.exec_id()), 100, 40)
                .map(|()| String::new()),
            Step::CloseIo(who) => {
                self.stdin.remove(&who);
                self.client
                    .close_io(self.target(&who.exec_id()))
                    .map(|()| String::new())
            }
            Step::Metrics => self.client.metrics(&self.id).map(|any| shape(any.as_ref())),
            Step::Checkpoint { exit } => self.checkpoint(exit)?,
        })
    }

    /// Start answers when `runc init` may execute the program: a signal that comes before would meet the one
    /// or the other.
    fn executed(&self, pid: u32) {
        let until = Instant::now() + PATIENCE;
        let path = self.node.path(&format!("/proc/{pid}/cmdline"));
        let waits = |words: Vec<u8>| words.ends_with(b"\0init\0");
        while std::fs::read(&path).is_ok_and(waits) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// FIFOs for a process; the input only where the program reads it.
    fn streams(&mut self, who: Who, program: Program, terminal: bool) -> Result<Streams> {
        let number = self.fifos.len();
        let name = if who == Who::Init {
            "init".to_owned()
        } else {
            who.exec_id()
        };
        let mut streams = Streams {
            terminal,
            ..Streams::default()
        };
        let path = |stream: &str| format!("{}/{number}-{name}-{stream}", self.directory);
        streams.stdout = path("stdout");
        let mut made = vec![(format!("{name} stdout"), &streams.stdout)];
        if !terminal {
            streams.stderr = path("stderr");
            made.push((format!("{name} stderr"), &streams.stderr));
        }
        self.current.insert(who, number);
        for (name, path) in made {
            self.fifos
                .push((name, Fifo::reader(&self.node.path(path))?));
        }
        if program == Program::Cat {
            streams.stdin = path("stdin");
            let fifo = Fifo::writer(&self.node.path(&streams.stdin))?;
            self.stdin.insert(who, fifo);
        }
        Ok(streams)
    }

    fn create(&mut self) -> Result<Answer> {
        let setup = self.script.setup;
        let rootfs = bundle::rootfs(self.node, self.runtime.namespace, &self.id)?;
        let before = (
            self.current.get(&Who::Init).copied(),
            self.stdin.remove(&Who::Init),
        );
        let streams = self.streams(Who::Init, setup.program, setup.terminal)?;
        let answer = self.client.create(&self.id, rootfs, &streams);
        match answer {
            Ok(pid) => {
                self.model.created(Who::Init, setup.program, setup.terminal);
                self.model.pid(Who::Init, pid);
            }
            // The one that is there keeps its streams.
            Err(_) => self.keep(Who::Init, before),
        }
        Ok(answer.map(|pid| format!("pid {}", self.model.label(pid))))
    }

    fn exec(&mut self, number: u8, program: Program, terminal: bool) -> Result<Answer> {
        let who = Who::Exec(number);
        let before = (self.current.get(&who).copied(), self.stdin.remove(&who));
        let streams = self.streams(who, program, terminal)?;
        let exec = who.exec_id();
        let answer = self.client.exec(
            self.target(&exec),
            bundle::exec(program, terminal),
            &streams,
        );
        if answer.is_ok() {
            self.model.created(who, program, terminal);
        } else {
            self.keep(who, before);
        }
        Ok(answer.map(|()| String::new()))
    }

    fn keep(&mut self, who: Who, before: (Option<usize>, Option<Fifo>)) {
        self.stdin.remove(&who);
        if let Some(number) = before.0 {
            self.current.insert(who, number);
        }
        if let Some(fifo) = before.1 {
            self.stdin.insert(who, fifo);
        }
    }

    fn pids(&self) -> Answer {
        self.client.pids(&self.id).map(|pids| {
            let mut labels: Vec<String> = pids
                .iter()
                .map(|process| {
                    let exec = process
                        .info
                        .as_ref()
                        .and_then(|info| ProcessDetails::decode(info.value.as_slice()).ok())
                        .map(|details| format!(" (exec {})", details.exec_id));
                    self.model.label(process.pid) + &exec.unwrap_or_default()
                })
                .collect();
            labels.sort();
            labels.join(", ")
        })
    }

    /// What the kernel has of the limits that updates change (cgroup v1; v2 where that is used).
    fn limits(&self) -> String {
        let group = bundle::cgroup(self.runtime.namespace, &self.id);
        let files = [
            format!("memory{group}/memory.limit_in_bytes"),
            format!("pids{group}/pids.max"),
            format!("cpu{group}/cpu.shares"),
            format!("cpu{group}/cpu.cfs_quota_us"),
            format!("{group}/memory.max"),
            format!("{group}/pids.max"),
            format!("{group}/cpu.weight"),
            format!("{group}/cpu.max"),
        ];
        let values: Vec<String> = files
            .iter()
            .filter_map(|file| {
                let path = self.node.path(&format!("/sys/fs/cgroup/{file}"));
                std::fs::read_to_string(path).ok()
            })
            .map(|value| value.trim().to_owned())
            .collect();
        values.join(" ")
    }

    fn checkpoint(&mut self, exit: bool) -> Result<Answer> {
        self.checkpoints += 1;
        let image = format!("{}/image-{}", self.directory, self.checkpoints);
        let work = format!("{}/work-{}", self.directory, self.checkpoints);
        for directory in [&image, &work] {
            std::fs::create_dir_all(self.node.path(directory))?;
        }
        let options = CheckpointOptions {
            exit,
            terminal: self.script.setup.terminal,
            image_path: image.clone(),
            work_path: work,
            ..CheckpointOptions::default()
        };
        let options = Any {
            type_url: "containerd.runc.v1.CheckpointOptions".to_owned(),
            value: options.encode_to_vec(),
        };
        Ok(self.client.checkpoint(&self.id, options).map(|count| {
            let written = self.node.path(&image).join("inventory.img").exists();
            format!("{count} descriptors, image {written}")
        }))
    }
}

/// Type and top-level fields of metrics; their values differ from moment to moment.
fn shape(any: Option<&Any>) -> String {
    let Some(any) = any else {
        return "none".to_owned();
    };
    let mut fields = Vec::new();
    let mut bytes = any.value.as_slice();
    while let Ok((tag, wire)) = prost::encoding::decode_key(&mut bytes) {
        let context = prost::encoding::DecodeContext::default();
        if prost::encoding::skip_field(wire, tag, &mut bytes, context).is_err() {
            fields.push("broken".to_owned());
            break;
        }
        fields.push(tag.to_string());
    }
    fields.sort();
    fields.dedup();
    format!("{} with fields {}", any.type_url, fields.join(" "))
}

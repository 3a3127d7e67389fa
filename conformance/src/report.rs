//! What came out, and the document that says it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use mycedrive_integration::Node;

use crate::accepted;
use crate::cri;
use crate::script::KEPT_SEEDS;

/// How a life cycle went under one handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it must.
    Passed,
    /// It did not; why.
    Failed(String),
    /// It could not be tried; why.
    Skipped(String),
}

impl Outcome {
    /// Of a result.
    pub fn of(result: &Result<()>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }

    fn cell(&self) -> String {
        let one_line = |text: &str| text.lines().next().unwrap_or_default().replace('|', "\\|");
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Failed(why) => format!("**failed**: {}", one_line(why)),
            Self::Skipped(why) => format!("skipped: {}", one_line(why)),
        }
    }
}

/// What came out so far.
#[derive(Debug, Default)]
pub struct Report {
    /// Versions of what was run on.
    pub versions: String,
    /// Scripts that were run.
    pub scripts: usize,
    /// Scripts with a difference that may not be.
    pub different: usize,
    /// Calls by kind.
    pub calls: BTreeMap<String, usize>,
    /// How often each accepted difference was seen, by its text.
    pub accepted: BTreeMap<&'static str, usize>,
    lives: BTreeMap<(&'static str, &'static str), Outcome>,
}

impl Report {
    /// Notes how a life cycle went.
    pub fn life(&mut self, name: &'static str, handler: &'static str, outcome: Outcome) {
        self.lives.insert((name, handler), outcome);
    }

    /// Notes what the node runs.
    pub fn note_versions(&mut self, node: &Node) -> Result<()> {
        self.versions = node
            .sh("containerd --version | awk '{print \"containerd \" $3}'
             runc --version | awk 'NR == 1 {print \"runc \" $3}'
             criu --version | awk 'NR == 1 {print \"CRIU \" $2}'
             echo kernel $(uname -r)
             test -e /sys/fs/cgroup/cgroup.controllers && echo cgroup v2 || echo cgroup v1")?
            .replace('\n', ", ");
        Ok(())
    }

    /// The document.
    pub fn document(&self) -> String {
        let mut text = String::from("# Conformance\n\n");
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        line(
            "Written by `cargo run -p mycedrive-conformance`, which runs `io.containerd.mycedrive.v2` beside",
        );
        line("`io.containerd.runc.v2` on one containerd. Do not edit.\n");
        line(&format!("Run on {}.\n", self.versions));
        line("## Task API\n");
        line(
            "Each script is a sequence of calls on one container, legal and illegal, sent to containerd for both",
        );
        line(
            "runtimes. Compared are the code of every answer and what is in it, the state of every process after",
        );
        line("every call, all events and their order, and what the processes wrote.\n");
        line(&format!(
            "{} scripts ({} written, {} seeds), {} calls: {} with a difference that is not accepted.\n",
            self.scripts,
            crate::script::written().len(),
            self.scripts.saturating_sub(crate::script::written().len()),
            self.calls.values().sum::<usize>(),
            self.different,
        ));
        line("| call | how often |\n|---|---|");
        for (call, count) in &self.calls {
            line(&format!("| {call} | {count} |"));
        }
        line("\n## Accepted differences\n");
        line("| what | why | seen |\n|---|---|---|");
        let calls = accepted::CALLS.iter().map(|a| (a.what, a.why));
        let facts = accepted::FACTS.iter().map(|a| (a.what, a.why));
        for (what, why) in calls.chain(facts) {
            let seen = self.accepted.get(what).copied().unwrap_or(0);
            line(&format!("| {what} | {why} | {seen} |"));
        }
        for (what, why) in accepted::NOT_CALLED {
            line(&format!("| {what} | {why} | not called |"));
        }
        line("\n## Life cycles as kubelet drives them\n");
        line(
            "Under both handlers the same steps, checks and facts (exit codes, reasons, codes of errors).\n",
        );
        line("| life cycle | runc | mycedrive |\n|---|---|---|");
        for life in cri::ALL {
            let cell = |handler| {
                self.lives
                    .get(&(life.name, handler))
                    .map_or_else(|| "not run".to_owned(), Outcome::cell)
            };
            line(&format!(
                "| {} | {} | {} |",
                life.text,
                cell(cri::HANDLERS[0]),
                cell(cri::HANDLERS[1])
            ));
        }
        let seeds = KEPT_SEEDS.map(|seed| seed.to_string()).join(", ");
        // Writing to a string does not fail.
        let _ = writeln!(text, "\nKept seeds: {seeds}.");
        text
    }

    /// Writes the document into the repository.
    pub fn write(&self) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
        std::fs::write(&path, self.document())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

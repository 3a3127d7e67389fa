//! The document that says what came out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use mycedrive_integration::Containerd;

use crate::accepted;
use crate::cri;
use crate::report::{Outcome, Report};
use crate::script::{KEPT_SEEDS, written};

const TOP: &str = "# Conformance

Written by `cargo run -p mycedrive-conformance`, which runs `io.containerd.mycedrive.v2` beside
`io.containerd.runc.v2` on one containerd, and again on an older one. Do not edit.
";

const SCRIPTS: &str = "
## Task API

Each script is a sequence of calls on one container, legal and illegal, sent to containerd for both
runtimes. Compared are the code of every answer and what is in it, the state of every process after
every call, all events and their order, and what the processes wrote.
";

const DIFFERENCES: &str = "
## Accepted differences

The numbers are scripts and life cycles in which a difference was seen; one script can show several.
Those of a race differ from run to run, and may be 0.
";

const CALLS_NOT_MADE: &str = "
Calls that scripts come to and that are not made, and how often that was:
";

const LIVES: &str = "
## Life cycles as kubelet drives them

Under both handlers the same steps, checks and facts (exit codes, reasons, codes of errors).
";

/// Tables with a column for each containerd.
pub struct Document<'a> {
    reports: &'a BTreeMap<Containerd, Report>,
    text: String,
}

impl<'a> Document<'a> {
    /// The text of the document.
    pub fn of(reports: &'a BTreeMap<Containerd, Report>) -> String {
        let mut document = Self {
            reports,
            text: TOP.to_owned(),
        };
        document.versions();
        document.scripts();
        document.differences();
        document.lives();
        document.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The head of a table: its own columns, then those of each containerd.
    fn head(&mut self, own: &[&str], each: impl Fn(&str) -> Vec<String>) {
        let mut cells: Vec<String> = own.iter().map(|cell| (*cell).to_owned()).collect();
        for containerd in self.reports.keys() {
            cells.extend(each(name(*containerd)));
        }
        self.line("");
        self.row(&cells);
        self.row(&vec!["---".to_owned(); cells.len()]);
    }

    fn row(&mut self, cells: &[String]) {
        let line = format!("| {} |", cells.join(" | "));
        self.line(&line.replace("|  |", "| |"));
    }

    /// A line of a table: its own cells, then one of each report.
    fn each(&mut self, own: &[&str], cell: impl Fn(&Report) -> String) {
        let mut cells: Vec<String> = own.iter().map(|cell| (*cell).to_owned()).collect();
        cells.extend(self.reports.values().map(cell));
        self.row(&cells);
    }

    fn versions(&mut self) {
        self.head(&[""], |containerd| vec![containerd.to_owned()]);
        let releases = self.reports.keys().map(|containerd| containerd.release());
        let mut cells = vec!["containerd from Debian".to_owned()];
        cells.extend(releases.map(ToOwned::to_owned));
        self.row(&cells);
        let names: Vec<String> = self
            .reports
            .values()
            .next()
            .map(|report| report.versions.iter().map(|(name, _)| name.clone()))
            .into_iter()
            .flatten()
            .collect();
        for name in &names {
            self.each(&[name], |report| {
                let found = report.versions.iter().find(|(other, _)| other == name);
                found.map_or_else(|| "unknown".to_owned(), |(_, version)| version.clone())
            });
        }
    }

    fn scripts(&mut self) {
        self.text.push_str(SCRIPTS);
        let written = written().len();
        self.head(&[""], |containerd| vec![containerd.to_owned()]);
        self.each(&["scripts"], |report| {
            let seeds = report.scripts.saturating_sub(written);
            format!("{} ({written} written, {seeds} seeds)", report.scripts)
        });
        self.each(
            &["scripts with a difference that is not accepted"],
            |report| report.different.to_string(),
        );
        self.each(&["calls"], |report| {
            report.calls.values().sum::<usize>().to_string()
        });
        let mut calls: Vec<&String> = self
            .reports
            .values()
            .flat_map(|report| report.calls.keys())
            .collect();
        calls.sort();
        calls.dedup();
        for call in calls {
            self.each(&[&format!("of these, {call}")], |report| {
                report.calls.get(call).copied().unwrap_or(0).to_string()
            });
        }
        let seeds = KEPT_SEEDS.map(|seed| seed.to_string()).join(", ");
        self.line(&format!("\nKept seeds: {seeds}."));
    }

    fn differences(&mut self) {
        self.text.push_str(DIFFERENCES);
        self.head(&["what", "why"], |containerd| vec![containerd.to_owned()]);
        let calls = accepted::CALLS.iter().map(|one| (one.what, one.why));
        let facts = accepted::FACTS.iter().map(|one| (one.what, one.why));
        for (what, why) in calls.chain(facts) {
            self.each(&[what, why], |report| report.seen(what).to_string());
        }
        self.text.push_str(CALLS_NOT_MADE);
        self.head(&["what", "why"], |containerd| vec![containerd.to_owned()]);
        for one in accepted::NOT_CALLED {
            self.each(&[one.what, one.why], |report| {
                let count = report.not_called.get(one.what).copied();
                count.unwrap_or(0).to_string()
            });
        }
    }

    fn lives(&mut self) {
        self.text.push_str(LIVES);
        self.head(&["life cycle"], |containerd| {
            cri::HANDLERS
                .iter()
                .map(|handler| format!("{containerd}: {handler}"))
                .collect()
        });
        for life in cri::ALL {
            let mut cells = vec![life.text.to_owned()];
            for report in self.reports.values() {
                cells.extend(cri::HANDLERS.iter().map(|handler| {
                    let outcome = report.outcome(life.name, handler);
                    outcome.map_or_else(|| "not run".to_owned(), Outcome::cell)
                }));
            }
            self.row(&cells);
        }
    }
}

fn name(containerd: Containerd) -> &'static str {
    match containerd {
        Containerd::V2 => "containerd 2.1",
        Containerd::V1_7 => "containerd 1.7",
    }
}

/// Writes the document into the repository.
pub fn write(reports: &BTreeMap<Containerd, Report>) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    std::fs::write(&path, Document::of(reports))
        .with_context(|| format!("cannot write {}", path.display()))
}

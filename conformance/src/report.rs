//! What came out over one containerd.

use std::collections::BTreeMap;

use anyhow::Result;
use mycedrive_integration::Node;

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

    /// As a cell of a table.
    pub fn cell(&self) -> String {
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
    /// What was run on: the name of each thing and its version.
    pub versions: Vec<(String, String)>,
    /// Scripts that were run.
    pub scripts: usize,
    /// Scripts with a difference that may not be.
    pub different: usize,
    /// Calls that were made, by kind.
    pub calls: BTreeMap<String, usize>,
    /// Calls that were not made, by what they are.
    pub not_called: BTreeMap<&'static str, usize>,
    accepted: BTreeMap<&'static str, usize>,
    lives: BTreeMap<(&'static str, &'static str), Outcome>,
}

impl Report {
    /// Notes how a life cycle went.
    pub fn life(&mut self, name: &'static str, handler: &'static str, outcome: Outcome) {
        self.lives.insert((name, handler), outcome);
    }

    /// How a life cycle went, if it was tried.
    pub fn outcome(&self, name: &'static str, handler: &'static str) -> Option<&Outcome> {
        self.lives.get(&(name, handler))
    }

    /// Notes that a script or a life cycle showed an accepted difference.
    pub fn see(&mut self, what: &'static str) {
        *self.accepted.entry(what).or_default() += 1;
    }

    /// In how many scripts and life cycles an accepted difference was seen.
    pub fn seen(&self, what: &str) -> usize {
        self.accepted.get(what).copied().unwrap_or(0)
    }

    /// Notes what the node runs.
    pub fn note_versions(&mut self, node: &Node) -> Result<()> {
        let text = node.sh("containerd --version | awk '{print \"containerd \" $3}'
             runc --version | awk 'NR == 1 {print \"runc \" $3}'
             criu --version | awk 'NR == 1 {print \"CRIU \" $2}'
             echo kernel $(uname -r)
             test -e /sys/fs/cgroup/cgroup.controllers && echo cgroup v2 || echo cgroup v1")?;
        self.versions = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .collect();
        Ok(())
    }
}

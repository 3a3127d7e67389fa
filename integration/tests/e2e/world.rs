//! What scenarios share: the testbed, its state before each, and what is said of a failure.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum as _;
use libtest_mimic::{Completion, Failed, Trial};
use mycedrive_integration::{Containerd, Error, Node, Testbed, TestbedOptions, build_binaries};

/// A testbed of another name is used if this is set.
const NAME: &str = "MYCEDRIVE_E2E_NAME";
/// The version of containerd, if not the usual one.
const CONTAINERD: &str = "MYCEDRIVE_E2E_CONTAINERD";
/// This many of the last lines of each daemon's log are shown with a failure.
const LOG_LINES: usize = 12;

/// What a scenario's body is.
type Body = Box<dyn FnOnce(&Testbed) -> Result<()> + Send>;

/// A scenario of the list.
pub struct Scenario {
    name: String,
    body: Body,
}

impl Scenario {
    /// A scenario; its name begins with its group.
    pub fn new(
        name: impl Into<String>,
        body: impl FnOnce(&Testbed) -> Result<()> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            body: Box::new(body),
        }
    }

    /// As a test of the harness.
    pub fn trial(self, world: &Arc<World>) -> Trial {
        let world = Arc::clone(world);
        Trial::ignorable_test(self.name, move || world.run(self.body))
    }
}

/// The reason for which a scenario cannot run here.
#[derive(Debug, thiserror::Error)]
#[error("skipped: {0}")]
pub struct Skip(pub String);

enum State {
    New,
    Up(Testbed),
    Impossible(String),
}

/// The testbed, made when the first scenario needs it.
pub struct World {
    state: Mutex<State>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::New),
        }
    }
}

impl World {
    fn run(&self, body: Body) -> Result<Completion, Failed> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A testbed that cannot be put right again is made anew.
        if matches!(&*state, State::Up(testbed) if reset(testbed).is_err()) {
            *state = State::New;
        }
        if matches!(*state, State::New) {
            *state = start()?;
        }
        match &*state {
            State::New => Err("no testbed".into()),
            State::Impossible(reason) => Ok(skipped(reason)),
            State::Up(testbed) => match body(testbed) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => match error.downcast_ref::<Skip>() {
                    Some(skip) => Ok(skipped(&skip.0)),
                    None => Err(format!("{error:#}\n{}", logs(testbed)).into()),
                },
            },
        }
    }

    /// Removes the testbed.
    pub fn remove(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::New;
    }
}

fn skipped(reason: &str) -> Completion {
    Completion::ignored_with(format!("skipped: {reason}"))
}

fn start() -> Result<State, Failed> {
    if let Some(reason) = mycedrive_integration::missing_privilege() {
        return Ok(State::Impossible(reason));
    }
    build_binaries(false).map_err(|error| error.to_string())?;
    let name = std::env::var(NAME).unwrap_or_else(|_| "e2e".to_owned());
    let containerd = match std::env::var(CONTAINERD) {
        Ok(version) => Containerd::from_str(&version, true)?,
        Err(_) => Containerd::default(),
    };
    let options = TestbedOptions {
        name,
        nodes: 3,
        containerd,
        ..TestbedOptions::default()
    };
    match Testbed::start(&options) {
        Ok(testbed) => Ok(State::Up(testbed)),
        Err(error @ (Error::Privilege(_) | Error::Packages { .. })) => {
            Ok(State::Impossible(error.to_string()))
        }
        Err(error) => Err(error.to_string().into()),
    }
}

/// Removes what a scenario left: pods, armed faults, cut links, stopped services.
fn reset(testbed: &Testbed) -> Result<()> {
    for node in testbed.workers() {
        if !node.alive() {
            return Err(anyhow!("{} is dead", node.name()));
        }
        node.disarm_faults()?;
        node.set_link(true)?;
        node.set_rate(None)?;
        for service in ["containerd", "mycedrive"] {
            if has_service(node, service) {
                node.start_service(service)?;
            }
        }
        node.wait_ready()?;
        node.remove_all_pods()?;
        give_parked_pods_up(node)?;
    }
    Ok(())
}

/// Images that a scenario left behind would be found by the next pod of their name.
fn give_parked_pods_up(node: &Node) -> Result<()> {
    if !has_service(node, "mycedrive") {
        return Ok(());
    }
    for pod in serde_json::from_str::<Vec<serde_json::Value>>(&node.sh("mycedrive ps --json")?)? {
        if pod["role"] == "parked" {
            let id = pod["migration"].as_str().unwrap_or_default();
            node.sh(&format!("mycedrive drop {id}"))?;
        }
    }
    Ok(())
}

/// A node without a node daemon has no log of one.
pub fn has_service(node: &Node, service: &str) -> bool {
    node.log_dir()
        .join("testbed")
        .join(format!("{service}.log"))
        .exists()
}

/// The scenario goes on only where the node daemon runs.
pub fn need_daemon(testbed: &Testbed) -> Result<()> {
    let without = testbed
        .workers()
        .find(|node| !has_service(node, "mycedrive"));
    match without {
        Some(node) => Err(Skip(format!("{} has no node daemon", node.name())).into()),
        None => Ok(()),
    }
}

fn logs(testbed: &Testbed) -> String {
    let mut text = String::new();
    for node in testbed.workers() {
        let log = node.log("mycedrive");
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(LOG_LINES);
        let end = lines[last..].join("\n");
        // Writing to a string does not fail.
        let _ = writeln!(text, "-- {}'s daemon --\n{end}", node.name());
    }
    text
}

/// Node A, node B and the client.
pub fn three(testbed: &Testbed) -> Result<(&Node, &Node, &Node)> {
    let find = |name| testbed.node(name).context("the testbed lacks a node");
    Ok((find("a")?, find("b")?, find("client")?))
}

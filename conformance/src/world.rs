//! The testbed, made when the first test needs it.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};
use mycedrive_integration::{Error, Testbed, TestbedOptions, build_binaries};

use crate::bundle;
use crate::cri::Skip;
use crate::report::Report;

/// A testbed of another name is used if this is set.
const NAME: &str = "MYCEDRIVE_CONFORMANCE_NAME";

enum State {
    New,
    Up(Testbed),
    Impossible(String),
}

/// What tests share.
pub struct World {
    state: Mutex<State>,
    /// What came out so far.
    pub report: Mutex<Report>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::New),
            report: Mutex::default(),
        }
    }
}

/// A test: gets the testbed, whose node is `a`, and the report.
pub type Body = Box<dyn FnOnce(&mut Testbed, &mut Report) -> Result<()> + Send>;

impl World {
    /// A test of the harness.
    pub fn trial(self: &Arc<Self>, name: String, body: Body) -> Trial {
        let world = self.clone();
        Trial::ignorable_test(name, move || world.run(body))
    }

    fn run(&self, body: Body) -> Result<Completion, Failed> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = matches!(&*state, State::Up(testbed) if !whole(testbed));
        if broken || matches!(*state, State::New) {
            *state = State::New;
            *state = start()?;
        }
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::New => Err("no testbed".into()),
            State::Impossible(reason) => Ok(Completion::ignored_with(format!("skipped: {reason}"))),
            State::Up(testbed) => {
                if report.versions.is_empty() {
                    let node = testbed.node("a").map_err(|error| error.to_string())?;
                    report
                        .note_versions(node)
                        .map_err(|error| format!("{error:#}"))?;
                }
                match body(testbed, &mut report) {
                    Ok(()) => Ok(Completion::Completed),
                    Err(error) => match error.downcast_ref::<Skip>() {
                        Some(skip) => Ok(Completion::ignored_with(skip.to_string())),
                        None => Err(format!("{error:#}").into()),
                    },
                }
            }
        }
    }

    /// Removes the testbed.
    pub fn remove(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::New;
    }
}

fn whole(testbed: &Testbed) -> bool {
    testbed.workers().all(|node| {
        node.alive() && node.start_service("containerd").is_ok() && node.wait_ready().is_ok()
    })
}

fn start() -> Result<State, Failed> {
    if let Some(reason) = mycedrive_integration::missing_privilege() {
        return Ok(State::Impossible(reason));
    }
    build_binaries(false).map_err(|error| error.to_string())?;
    let options = TestbedOptions {
        name: std::env::var(NAME).unwrap_or_else(|_| "conformance".to_owned()),
        nodes: 1,
        client: false,
        ..TestbedOptions::default()
    };
    let testbed = match Testbed::start(&options) {
        Ok(testbed) => testbed,
        Err(error @ (Error::Privilege(_) | Error::Packages { .. })) => {
            return Ok(State::Impossible(error.to_string()));
        }
        Err(error) => return Err(error.to_string().into()),
    };
    let node = testbed.node("a").map_err(|error| error.to_string())?;
    bundle::prepare(node).map_err(|error| format!("{error:#}"))?;
    Ok(State::Up(testbed))
}

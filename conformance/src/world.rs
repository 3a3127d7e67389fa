//! The testbed, made when the first test needs it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use libtest_mimic::{Completion, Failed, Trial};
use mycedrive_integration::{Containerd, Error, Node, Testbed, TestbedOptions, build_binaries};

use crate::bundle;
use crate::cri::Skip;
use crate::report::Report;

/// A testbed of another name is used if this is set.
const NAME: &str = "MYCEDRIVE_CONFORMANCE_NAME";

/// An OCI archive with images for the node, in place of the testbed's of the same name.
const IMAGES: &str = "MYCEDRIVE_CONFORMANCE_IMAGES";

enum State {
    New,
    Up(Testbed),
    Impossible(String),
}

/// What tests share. One testbed at a time; tests over one containerd come one after the other.
pub struct World {
    state: Mutex<(Containerd, State)>,
    /// What came out so far, by the containerd that it was tried on.
    pub reports: Mutex<BTreeMap<Containerd, Report>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            state: Mutex::new((Containerd::default(), State::New)),
            reports: Mutex::default(),
        }
    }
}

/// A test: gets the testbed, whose node is `a`, and the report.
pub type Body = Box<dyn FnOnce(&mut Testbed, &mut Report) -> Result<()> + Send>;

/// Beginning of the names of tests over a containerd that is not the usual one.
pub fn prefix(containerd: Containerd) -> &'static str {
    match containerd {
        Containerd::V2 => "",
        Containerd::V1_7 => "containerd_1_7::",
    }
}

impl World {
    /// A test of the harness.
    pub fn trial(self: &Arc<Self>, containerd: Containerd, name: &str, body: Body) -> Trial {
        let world = self.clone();
        let name = format!("{}{name}", prefix(containerd));
        Trial::ignorable_test(name, move || world.run(containerd, body))
    }

    fn run(&self, containerd: Containerd, body: Body) -> Result<Completion, Failed> {
        let mut shared = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (current, state) = &mut *shared;
        let broken = matches!(state, State::Up(testbed) if !whole(testbed));
        if broken || *current != containerd {
            *state = State::New;
        }
        if matches!(state, State::New) {
            *current = containerd;
            *state = start(containerd)?;
        }
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let report = reports.entry(containerd).or_default();
        match state {
            State::New => Err("no testbed".into()),
            State::Impossible(reason) => Ok(Completion::ignored_with(format!("skipped: {reason}"))),
            State::Up(testbed) => {
                if report.versions.is_empty() {
                    let node = testbed.node("a").map_err(|error| error.to_string())?;
                    report
                        .note_versions(node)
                        .map_err(|error| format!("{error:#}"))?;
                }
                match body(testbed, report) {
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = State::New;
    }
}

fn whole(testbed: &Testbed) -> bool {
    testbed.workers().all(|node| {
        node.alive() && node.start_service("containerd").is_ok() && node.wait_ready().is_ok()
    })
}

fn start(containerd: Containerd) -> Result<State, Failed> {
    if let Some(reason) = mycedrive_integration::missing_privilege() {
        return Ok(State::Impossible(reason));
    }
    build_binaries(false).map_err(|error| error.to_string())?;
    let options = TestbedOptions {
        name: std::env::var(NAME).unwrap_or_else(|_| "conformance".to_owned()),
        nodes: 1,
        client: false,
        containerd,
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
    import(node).map_err(|error| format!("{error:#}"))?;
    Ok(State::Up(testbed))
}

/// Gives the node other images than the testbed's.
fn import(node: &Node) -> Result<()> {
    let Some(file) = std::env::var_os(IMAGES) else {
        return Ok(());
    };
    std::fs::copy(&file, node.path("/srv/images.tar"))
        .with_context(|| format!("cannot copy {}", file.display()))?;
    node.sh("ctr -n k8s.io images import /srv/images.tar; rm /srv/images.tar")?;
    Ok(())
}

//! `docs/fault-matrix.md`: written by a run that has been through every point.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use mycedrive_handover::fault::FaultPoint;

use super::matrix::{SHIMS, of_shim};
use super::outcome::Outcome;

static OUTCOMES: Mutex<BTreeMap<&'static str, Outcome>> = Mutex::new(BTreeMap::new());

fn document() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/fault-matrix.md")
}

/// Enters what came of a death; writes the document when it is whole and all points were to run.
pub fn enter(point: FaultPoint, outcome: Outcome) -> Result<()> {
    let mut all = OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(point.name(), outcome);
    if all.len() < FaultPoint::ALL.len() || std::env::var_os(SHIMS).is_none() {
        return Ok(());
    }
    std::fs::write(document(), text(&all)).context("cannot write docs/fault-matrix.md")
}

fn text(all: &BTreeMap<&'static str, Outcome>) -> String {
    let mut text = format!(
        "# Fault matrix\n\n\
         Written by `{SHIMS}=1 cargo test --test e2e -- faults::kill` on two real nodes: at each \
         point the program that passes it gets SIGKILL once, in a migration of Redis with a client \
         that counts over one connection, while kubelet on B tries for 15 s. The counter never \
         went back, and the pod never ran twice.\n\n\
         - **completed**: it runs on B, perhaps by kubelet's next attempt.\n\
         - **rolled back**: it runs on A.\n\
         - **held**: frozen on A; the test lets a person decide (`mycedrive resolve --run-here`), \
         and it runs on A.\n\
         - **ended**: the processes ran, and their shim died: containerd ends them, as under \
         `io.containerd.runc.v2`.\n"
    );
    for (title, shim) in [
        ("The node daemon dies", false),
        ("The pod's shim dies", true),
    ] {
        let _ = write!(text, "\n## {title}\n\n| point | outcome |\n| --- | --- |\n");
        for point in FaultPoint::ALL
            .iter()
            .filter(|point| of_shim(**point) == shim)
        {
            if let Some(outcome) = all.get(point.name()) {
                let _ = writeln!(text, "| `{}` | {outcome} |", point.name());
            }
        }
    }
    text
}

/// The document names every point that there is.
pub fn check_document() -> Result<()> {
    let text = std::fs::read_to_string(document()).context("docs/fault-matrix.md")?;
    for point in FaultPoint::ALL {
        ensure!(
            text.contains(&format!("`{}`", point.name())),
            "docs/fault-matrix.md lacks {}: run {SHIMS}=1 cargo test --test e2e -- faults::kill",
            point.name()
        );
    }
    Ok(())
}

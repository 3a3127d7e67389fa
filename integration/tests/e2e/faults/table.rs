//! `docs/fault-matrix.md`, and `docs/fault-matrix-dmtcp.md`: each written by a run that has been
//! through every point.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use mycedrive_handover::fault::FaultPoint;

use super::matrix::{Engine, SHIMS, of_shim, points};
use super::outcome::Outcome;

type Outcomes = BTreeMap<&'static str, Outcome>;
static OUTCOMES: Mutex<BTreeMap<Engine, Outcomes>> = Mutex::new(BTreeMap::new());

fn document(engine: Engine) -> PathBuf {
    let name = match engine {
        Engine::Criu => "fault-matrix.md",
        Engine::Dmtcp => "fault-matrix-dmtcp.md",
    };
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// The tests of an engine.
fn group(engine: Engine) -> &'static str {
    match engine {
        Engine::Criu => "faults::kill::",
        Engine::Dmtcp => "faults::kill_dmtcp::",
    }
}

/// Enters what came of a death; writes the document when it is whole and all points were to run.
pub fn enter(engine: Engine, point: FaultPoint, outcome: Outcome) -> Result<()> {
    let mut outcomes = OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner);
    let all = outcomes.entry(engine).or_default();
    all.insert(point.name(), outcome);
    if all.len() < points(engine).count() || std::env::var_os(SHIMS).is_none() {
        return Ok(());
    }
    let file = document(engine);
    std::fs::write(&file, text(engine, all))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn text(engine: Engine, all: &Outcomes) -> String {
    let (title, group) = match engine {
        Engine::Criu => ("Fault matrix", group(engine)),
        Engine::Dmtcp => ("Fault matrix under DMTCP", group(engine)),
    };
    let mut text = format!(
        "# {title}\n\n\
         Written by `{SHIMS}=1 cargo test --test e2e -- {group}` on two real nodes: at each \
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
    if engine == Engine::Dmtcp {
        text.push_str(
            "  Or they stood still and were not dumped, which only their shim can have done.\n",
        );
    }
    for (title, shim) in [
        ("The node daemon dies", false),
        ("The pod's shim dies", true),
    ] {
        let _ = write!(text, "\n## {title}\n\n| point | outcome |\n| --- | --- |\n");
        for point in points(engine).filter(|point| of_shim(**point) == shim) {
            if let Some(outcome) = all.get(point.name()) {
                let _ = writeln!(text, "| `{}` | {outcome} |", point.name());
            }
        }
    }
    text
}

/// The document names every point that there is.
pub fn check_document(engine: Engine) -> Result<()> {
    let file = document(engine);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    for point in points(engine) {
        ensure!(
            text.contains(&format!("`{}`", point.name())),
            "{} lacks {}: run {SHIMS}=1 cargo test --test e2e -- {}",
            file.display(),
            point.name(),
            group(engine)
        );
    }
    Ok(())
}

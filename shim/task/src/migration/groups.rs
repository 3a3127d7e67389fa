//! Containers that stand still together: who stops their processes, and their control groups.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mycedrive_engine::freezer::Freezer;
use mycedrive_engine::{Connections, Engine, Member};
use tracing::info;

use super::{blocking, target};
use crate::container::Container;
use crate::error::Result;
use crate::state::Step;

/// How long killed processes may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

type Containers = Vec<Arc<Container>>;

/// Those that their engine suspends itself, and those that are frozen by their control group.
pub(super) fn by_engine(containers: &[Arc<Container>]) -> Result<(Containers, Containers)> {
    let (mut suspended, mut frozen) = (Vec::new(), Vec::new());
    for container in containers {
        let list = if container.engine()?.suspends() {
            &mut suspended
        } else {
            &mut frozen
        };
        list.push(container.clone());
    }
    Ok((suspended, frozen))
}

/// These containers, for what they share. One without an engine is of no concern to any.
pub(super) fn members(containers: &[Arc<Container>]) -> Vec<Member> {
    let member = |container: &Arc<Container>| {
        Some(Member {
            name: container.name.clone(),
            pid: container.init.pid(),
            engine: container.engine().ok()?.kind(),
        })
    };
    containers.iter().filter_map(member).collect()
}

/// The engine that suspends the processes of one of these, and of all its other ones in the pod.
pub(super) fn suspends(containers: &[Arc<Container>]) -> Result<Option<Arc<dyn Engine>>> {
    for container in containers {
        let engine = container.engine()?;
        if engine.suspends() {
            return Ok(Some(engine));
        }
    }
    Ok(None)
}

/// Refuses when images that the processes write themselves, all at the same time, would not fit.
/// Nothing was done to the pod.
pub(super) async fn has_room(containers: &[Arc<Container>], images: PathBuf) -> Result<()> {
    let (writers, _) = by_engine(containers)?;
    let Some(engine) = suspends(&writers)? else {
        return Ok(());
    };
    let writers: Vec<_> = writers
        .iter()
        .map(|container| (target(container), container.init.pid()))
        .collect();
    blocking(move || Ok(engine.has_room(&writers, &images)?)).await
}

pub(super) fn freezers(containers: &[Arc<Container>]) -> Result<Vec<Freezer>> {
    containers
        .iter()
        .map(|container| Ok(Freezer::of_process(container.init.pid())?))
        .collect()
}

pub(super) fn thaw_states(containers: &[Arc<Container>]) {
    for container in containers {
        if let Err(error) = container.init.step(Step::Thaw) {
            // It was killed meanwhile.
            info!(%error, "not running again");
        }
    }
}

pub(super) fn connections(keep: bool) -> Connections {
    if keep {
        Connections::Keep
    } else {
        Connections::Close
    }
}

/// Whether the groups became empty in time.
pub(super) fn wait_empty(freezers: &[Freezer]) -> bool {
    let deadline = Instant::now() + KILL_PATIENCE;
    let empty = |freezer: &Freezer| freezer.processes().is_ok_and(|all| all.is_empty());
    // A group that is gone cannot be listed.
    let gone = |freezer: &Freezer| !freezer.directory().exists();
    while Instant::now() < deadline {
        if freezers
            .iter()
            .all(|freezer| gone(freezer) || empty(freezer))
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

//! What remains when a shim dies while its pod is frozen.
//!
//! containerd then calls this program's `delete`, which ends what a dead shim leaves. Frozen
//! processes are the only copy of the pod, though: [`write()`] notes them down, `delete` leaves
//! alone what is noted, and the node daemon dumps them or, once the pod runs elsewhere, ends
//! them. They never run here again: nobody would look after them.
//!
//! Processes that their engine suspends need this shim to be dumped. They are noted when they
//! are; from then on the image is the pod, and `delete` may end them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mycedrive_engine::dump_runs;
use mycedrive_engine::freezer::Freezer;
use mycedrive_handover::away::{self, Away};
use mycedrive_proto::shim::{DescribeReply, Left, LeftContainer};
use protobuf::{Message, MessageField};

use super::{daemon, target};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::pod_socket;

/// The file of a pod.
fn path(sandbox_id: &str) -> PathBuf {
    pod_socket::path(sandbox_id).with_extension("frozen")
}

/// The note of a pod that has just been frozen.
pub fn note(
    migration: &str,
    keep: bool,
    frozen_at_ns: u64,
    pod: DescribeReply,
    containers: &[Arc<Container>],
    sandbox: Option<&Arc<Container>>,
) -> Result<Left> {
    let sandbox = sandbox.map(|container| left(container, "")).transpose()?;
    let containers = containers
        .iter()
        .map(|container| left(container, container.engine()?.kind().name()))
        .collect::<Result<_>>()?;
    Ok(Left {
        migration_id: migration.to_owned(),
        keep_connections: keep,
        frozen_at_ns,
        pod: MessageField::some(pod),
        containers,
        sandbox: sandbox.into(),
        ..Left::default()
    })
}

fn left(container: &Container, engine: &str) -> Result<LeftContainer> {
    let target = target(container);
    let pid = container.init.pid();
    let text = |path: &Path| path.display().to_string();
    Ok(LeftContainer {
        pid,
        cgroup: text(Freezer::of_process(pid)?.directory()),
        bundle: text(&target.bundle),
        runtime: text(&target.runtime.binary),
        runtime_root: text(&target.runtime.root),
        systemd_cgroup: target.runtime.systemd_cgroup,
        no_pivot: target.runtime.no_pivot,
        terminal: target.terminal,
        id: target.id,
        name: target.name,
        engine: engine.to_owned(),
        ..LeftContainer::default()
    })
}

/// Writes the note, in one step.
pub fn write(sandbox_id: &str, left: &Left) -> Result<()> {
    let path = path(sandbox_id);
    let new = path.with_extension("frozen.new");
    let bytes = left
        .write_to_bytes()
        .map_err(|error| Error::decode("the note of a frozen pod", error))?;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&new, &path))
        .map_err(Error::path("write", &path))
}

/// Removes the note: nothing is frozen any more, or it is about to be thawed.
pub fn remove(sandbox_id: &str) {
    let _ = fs::remove_file(path(sandbox_id));
}

/// What a shim that died leaves to the daemon.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Ids of the containers, with the sandbox, whose processes stay frozen.
    pub frozen: Vec<String>,
    /// Whether the daemon still needs the pod's volumes as they are.
    pub volumes: bool,
}

/// What the dead shim of a pod leaves to the daemon; the pod is away from now on. Nothing when its
/// processes are not all frozen, nor dumped: then they are ended as those of any dead shim. So are
/// those that were dumped, of which there is an image.
pub fn take(sandbox_id: &str) -> Taken {
    let Ok(bytes) = fs::read(path(sandbox_id)) else {
        return Taken::default();
    };
    let left = Left::parse_from_bytes(&bytes).unwrap_or_default();
    let frozen = |container: &LeftContainer| {
        Freezer::in_directory(Path::new(&container.cgroup))
            .is_some_and(|freezer| freezer.is_frozen().unwrap_or(false))
    };
    // A dump that the shim had begun goes on, or the daemon's has begun: it holds the processes, and
    // may end while this looks.
    let stands = |container: &LeftContainer| {
        frozen(container) || dump_runs(&container.id) || frozen(container)
    };
    let dumped = !left.image_dir.is_empty();
    if left.containers.is_empty() || !(dumped || left.containers.iter().all(stands)) {
        remove(sandbox_id);
        return Taken::default();
    }
    // kubelet makes the pod anew; its containers must not start beside the image of these.
    let id = left.migration_id.clone();
    if let Err(error) = away::write(
        &daemon::run_directory(),
        &left.pod.pod_uid,
        &Away::Parked { id },
    ) {
        eprintln!("the pod may start again from its image: {error}");
    }
    let containers = left
        .containers
        .into_iter()
        .chain(left.sandbox.into_option());
    Taken {
        frozen: if dumped {
            Vec::new()
        } else {
            containers.map(|one| one.id).collect()
        },
        volumes: true,
    }
}

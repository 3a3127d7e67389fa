//! What the Task API asks: what becomes of a container that is created, started or killed here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mycedrive_handover::away::{self, Away};
use mycedrive_proto::node::arrive_reply::Outcome;
use mycedrive_proto::node::{ArriveRequest, LeaveRequest};
use protobuf::MessageField;

use super::state::{DestinationStage, Migration, Source, SourceStage};
use super::{Migrator, blocking, daemon};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::pod::Pod;
use crate::spec::{Spec, annotation};
use crate::state::Step;

/// How long Start waits for a migration. kubelet gives up after two minutes, so the answer that
/// says how far it is must be there before.
const START_LIMIT: Duration = Duration::from_secs(100);

/// What the daemon says of a container that waited and is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Start it from its image.
    Ordinary,
    /// It was restored and runs.
    Running,
    /// It had ended on the source with this code: report start and exit, run nothing.
    Exited(u32),
    /// Reported as started; it runs once the pod's other containers have been started.
    Waiting,
    /// Still under way, this far; kubelet asks again.
    Retry(String),
    /// Refused or failed, for this reason.
    Refused(String),
}

/// Why nothing of the pod may run here any more: it moved, or is parked. Known to this shim, or to
/// the daemon, which a shim before this one may have told.
pub fn away(pod: &Pod) -> Option<Away> {
    let uid = pod.facts().map(|facts| facts.uid.as_str());
    if let Some(away) = uid.and_then(|uid| away::read(&daemon::run_directory(), uid)) {
        return Some(away);
    }
    moved(&pod.migration.state()).map(|source| Away::Moved {
        migration: source.id.clone(),
        destination: source.destination.clone(),
    })
}

/// How a pod moved away that is held here. A parked image that was given up is no obstacle.
fn moved(state: &Migration) -> Option<&Source> {
    match state {
        Migration::Source(source) if source.stage == SourceStage::Held && !source.parked => {
            Some(source)
        }
        _ => None,
    }
}

/// Whether the pod's processes stand still here: where it goes on is not decided yet.
pub fn is_frozen(pod: &Pod) -> bool {
    let source = matches!(
        &*pod.migration.state(),
        Migration::Source(source) if source.stage != SourceStage::Held
    );
    source || pod.migration.freezing.load(Ordering::SeqCst)
}

/// Refuses to start a container in a pod that is frozen.
pub fn refuse_when_frozen(pod: &Pod, container: &Container) -> Result<()> {
    if container.is_sandbox || !is_frozen(pod) {
        return Ok(());
    }
    Err(Error::Unavailable(format!(
        "container {}: its pod is frozen for a migration; it can start here if the pod stays",
        container.id
    )))
}

/// Makes a container, created before its pod left, one that is held. It has run nothing.
pub async fn hold_created(container: &Arc<Container>) -> Result<()> {
    container.forget_init();
    container.delete_from_runc().await?;
    let unmounting = container.clone();
    blocking(move || unmounting.unmount_rootfs()).await?;
    container.init.step(Step::Hold).map(drop)
}

/// Whether a container with this spec comes from another node or from an archive. One that crashed
/// after that is restarted from its image.
pub fn is_destination(pod: &Pod, spec: &Spec) -> bool {
    let arrived = matches!(
        &*pod.migration.state(),
        Migration::Destination(to) if to.stage == DestinationStage::Running
    );
    let in_pod = spec.annotation(annotation::SANDBOX_ID).is_some();
    !arrived
        && !spec.is_sandbox()
        && (in_pod && spec.annotation(annotation::MIGRATE_FROM).is_some()
            || spec.annotation(annotation::RESTORE_FROM).is_some())
}

/// Asks the daemon what becomes of a container that waits and is started.
pub async fn arrive(pod: &Arc<Pod>, container: &Arc<Container>) -> Result<Arrival> {
    let migrator = Migrator::of(pod);
    let facts = pod.facts().cloned().unwrap_or_default();
    let addresses = match migrator.netns() {
        Some(_) => migrator
            .network(mycedrive_connection::PodNet::addresses)
            .await?
            .iter()
            .map(ToString::to_string)
            .collect(),
        None => Vec::new(),
    };
    let request = ArriveRequest {
        sandbox_id: facts.sandbox_id,
        containerd_namespace: pod.containerd_namespace.clone(),
        pod_namespace: facts.namespace.clone(),
        pod_name: facts.name.clone(),
        pod_uid: facts.uid,
        annotations: container
            .spec
            .annotations(annotation::OURS)
            .into_iter()
            .collect(),
        container: MessageField::some(migrator.message(container)),
        netns: migrator
            .netns()
            .map(Path::display)
            .map(|path| path.to_string())
            .unwrap_or_default(),
        addresses,
        ..ArriveRequest::default()
    };
    let reply = daemon::arrive(request, START_LIMIT).await;
    let message = format!(
        "{}container {}: {}",
        if facts.is_kubernetes {
            format!("pod {}/{}, ", facts.namespace, facts.name)
        } else {
            String::new()
        },
        container.name,
        if reply.message.is_empty() {
            "the node daemon gave no reason"
        } else {
            &reply.message
        }
    );
    Ok(match reply.outcome.enum_value_or_default() {
        Outcome::OUTCOME_ORDINARY => Arrival::Ordinary,
        Outcome::OUTCOME_RUNNING => Arrival::Running,
        Outcome::OUTCOME_EXITED => Arrival::Exited(reply.exit_code),
        Outcome::OUTCOME_WAITING => Arrival::Waiting,
        Outcome::OUTCOME_RETRY => Arrival::Retry(message),
        Outcome::OUTCOME_REFUSED => Arrival::Refused(message),
    })
}

/// Tells the daemon, in the background, that a container is killed or deleted; with `pod_gone`,
/// that nothing of the pod is left. The daemon wants to know of pods that are in a migration or
/// came by one.
pub fn leave(pod: &Arc<Pod>, container: &Container, pod_gone: bool) {
    if let Some(request) = leaving(pod, container) {
        tokio::spawn(daemon::leave(LeaveRequest {
            pod_gone,
            ..request
        }));
    }
}

/// The sandbox is about to be killed, and its network goes next: waits until the peers of
/// connections that moved away have heard of their end, for a moment at most.
pub async fn going(pod: &Arc<Pod>, sandbox: &Container) {
    let moved = moved(&pod.migration.state()).is_some();
    if let Some(request) = leaving(pod, sandbox).filter(|_| moved) {
        daemon::leave(LeaveRequest {
            pod_going: true,
            ..request
        })
        .await;
    }
}

/// Of a container that leaves, if the daemon wants to know of its pod.
fn leaving(pod: &Arc<Pod>, container: &Container) -> Option<LeaveRequest> {
    let names = [annotation::MIGRATE_FROM, annotation::RESTORE_FROM];
    let concerned = *pod.migration.state() != Migration::None
        || names
            .iter()
            .any(|name| container.spec.annotation(name).is_some());
    let facts = pod.facts().filter(|_| concerned)?;
    Some(LeaveRequest {
        sandbox_id: facts.sandbox_id.clone(),
        container_id: container.id.clone(),
        container_name: container.name.clone(),
        ..LeaveRequest::default()
    })
}

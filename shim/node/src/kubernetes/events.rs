//! What is worth an event on a pod.

use mycedrive_proto::shim::{ContainerState, DescribeReply};
use serde_json::{Value, json};

use crate::progress::{Phase, Progress, Side, now_ns};
use crate::shims::app_containers;

/// Migrations of which nothing happened for so long are over for those who read events (which the API
/// server keeps for an hour). Older ones come back when the daemon starts again.
const RECENT_NS: u64 = 5 * 60 * 1_000_000_000;
/// The annotation by which a pod asks for an engine.
const ENGINE: &str = "mycedrive.io/engine";
/// Longest message that the API server takes
/// (kubernetes: pkg/apis/core/validation/events.go, `NoteLengthLimit`).
const LONGEST: usize = 1024;

/// An event on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodEvent {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) warning: bool,
    /// One word for programs.
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// It has happened; the others hold while they are seen.
    pub(super) at_once: bool,
}

impl PodEvent {
    /// The same for the same event, so that the API server refuses a second one.
    pub(super) fn name(&self) -> String {
        let text = [&self.uid, self.reason, &self.message].join("\n");
        let digest = blake3::hash(text.as_bytes()).to_hex();
        // Names of pods have up to 253 characters, as those of events.
        let pod: String = self.pod.chars().take(200).collect();
        format!("{pod}.{}", &digest[..16])
    }

    /// As the API server wants it (core/v1 Event); `at`: RFC 3339, seconds.
    pub(super) fn body(&self, node: &str, at: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.name(), "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": self.namespace,
                "name": self.pod,
                "uid": self.uid,
            },
            "type": if self.warning { "Warning" } else { "Normal" },
            "reason": self.reason,
            "message": self.message,
            "source": {"component": "mycedrive", "host": node},
            "reportingComponent": "mycedrive",
            "reportingInstance": node,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        })
    }
}

/// Of the pods of this node and its migrations.
pub(super) fn all(pods: &[DescribeReply], migrations: &[Progress]) -> Vec<PodEvent> {
    let pods: Vec<_> = pods.iter().filter(|pod| !pod.pod_uid.is_empty()).collect();
    let mut all: Vec<PodEvent> = pods.iter().flat_map(|pod| of_pod(pod)).collect();
    let now = now_ns();
    for progress in migrations {
        let last = progress.events.iter().map(|event| event.at_ns).max();
        let last = last.unwrap_or(progress.started_ns);
        let pod = pods.iter().find(|pod| pod.sandbox_id == progress.sandbox);
        // Of a pod that is gone nobody asks.
        if let Some(pod) = pod
            && now.saturating_sub(last) <= RECENT_NS
        {
            all.extend(of_migration(progress, &pod.pod_uid));
        }
    }
    all
}

/// What a pod's containers are missing.
fn of_pod(pod: &DescribeReply) -> Vec<PodEvent> {
    let event = |warning, reason, message| PodEvent {
        namespace: pod.pod_namespace.clone(),
        pod: pod.pod_name.clone(),
        uid: pod.pod_uid.clone(),
        warning,
        reason,
        message: shortened(message),
        at_once: false,
    };
    let mut events = Vec::new();
    for (name, container) in app_containers(pod) {
        let running =
            container.state.enum_value_or_default() == ContainerState::CONTAINER_STATE_RUNNING;
        if !running {
            continue;
        }
        if !container.not_migratable.is_empty() {
            let why = container.not_migratable.join("; ");
            let message = format!("container {name} cannot move to another node: {why}");
            events.push(event(true, "NotMigratable", message));
            continue;
        }
        let asked = pod.annotations.get(ENGINE).filter(|asked| *asked != "auto");
        if let Some(asked) = asked.filter(|asked| **asked != container.engine) {
            let message = format!(
                "container {name} is carried by {}, not by {asked}: {}",
                container.engine, container.engine_why
            );
            events.push(event(false, "OtherEngine", message));
        }
    }
    events
}

/// How a migration ended, or that a person is needed. Why one did not begin, kubelet says itself, on
/// the pod that wanted it.
fn of_migration(progress: &Progress, uid: &str) -> Option<PodEvent> {
    let (id, peer, why) = (&progress.id, &progress.peer, &progress.message);
    let freeze = progress
        .freeze_ms
        .map_or_else(String::new, |ms| format!(", after a freeze of {ms} ms"));
    let (warning, reason, message) = match (progress.phase, progress.side) {
        (Phase::Relaying | Phase::Completed, Side::Source) => {
            (false, "Migrated", format!("runs on {peer} now"))
        }
        (Phase::Relaying | Phase::Completed, Side::Destination) => {
            (false, "Migrated", format!("came from {peer}{freeze}"))
        }
        (Phase::Parked, _) => (
            false,
            "Parked",
            "is an image on this node, for another pod to take over".to_owned(),
        ),
        (Phase::RolledBack, Side::Source) => (
            true,
            "MigrationRolledBack",
            format!("goes on here, not on {peer}: {why}"),
        ),
        (Phase::Held, _) => (
            true,
            "MigrationHeld",
            format!(
                "stands still until {peer} answers, or `mycedrive resolve {id}` decides: {why}"
            ),
        ),
        _ => return None,
    };
    Some(PodEvent {
        namespace: progress.namespace.clone(),
        pod: progress.pod.clone(),
        uid: uid.to_owned(),
        warning,
        reason,
        message: shortened(format!("migration {id}: {message}")),
        at_once: true,
    })
}

fn shortened(message: String) -> String {
    if message.len() <= LONGEST {
        return message;
    }
    let mut end = LONGEST - 3;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;

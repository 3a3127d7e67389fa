//! Lists of pods and migrations, for people.

use super::table::Table;
use crate::operator::pods::{PodInfo, VolumeInfo};
use crate::progress::{Progress, Side, now_ns};
use crate::units::{show_bytes, show_millis};

/// `mycedrive ps`.
pub fn pods(pods: &[PodInfo]) -> String {
    if pods.is_empty() {
        return "no pod runs under mycedrive on this node (runtimeClassName: mycedrive)\n"
            .to_owned();
    }
    let mut table = Table::new(&[
        "NAMESPACE",
        "POD",
        "CONTAINERS",
        "ADDRESS",
        "ENGINE",
        "MIGRATABLE",
        "MIGRATION",
    ]);
    for pod in pods {
        let containers: Vec<String> = pod
            .containers
            .iter()
            .map(|container| format!("{}:{}", container.name, container.state))
            .collect();
        let mut engines: Vec<&str> = pod.containers.iter().map(|c| c.engine.as_str()).collect();
        engines.sort_unstable();
        engines.dedup();
        let name = if pod.name.is_empty() {
            pod.sandbox.clone()
        } else {
            pod.name.clone()
        };
        let migration = match (pod.migration.is_empty(), pod.role.is_empty()) {
            (true, _) => String::new(),
            (false, true) => short(&pod.migration).to_owned(),
            (false, false) => format!("{} ({})", short(&pod.migration), pod.role),
        };
        table.row(&[
            pod.namespace.clone(),
            name,
            containers.join(","),
            pod.addresses.first().cloned().unwrap_or_default(),
            engines.join(","),
            if pod.migratable { "yes" } else { "no" }.to_owned(),
            migration,
        ]);
        for container in pod.containers.iter().filter(|c| !c.engine_why.is_empty()) {
            table.note(&format!(
                "{}: {}: {}",
                container.name, container.engine, container.engine_why
            ));
        }
        for obstacle in &pod.obstacles {
            table.note(obstacle);
        }
        for container in &pod.containers {
            for one in &container.volumes {
                table.note(&volume(&container.name, one));
            }
        }
    }
    table.render()
}

fn volume(container: &str, one: &VolumeInfo) -> String {
    let place = format!("volume {container}:{}", one.destination);
    if one.layers > 0 {
        return format!(
            "{place} is a stack of {} layers: {}, and {} in the upper",
            one.layers,
            show_bytes(one.lower_bytes),
            show_bytes(one.live_bytes)
        );
    }
    let reason = if one.plain_because.is_empty() {
        String::new()
    } else {
        format!(": {}", one.plain_because)
    };
    format!(
        "{place}, {}, moves as a directory{reason}",
        show_bytes(one.live_bytes)
    )
}

/// `mycedrive migrations`.
pub fn migrations(all: &[Progress]) -> String {
    if all.is_empty() {
        return "no migrations on this node yet\n".to_owned();
    }
    let mut table = Table::new(&["ID", "POD", "PEER", "PHASE", "STARTED", "FREEZE", "SENT"]);
    for one in all {
        let direction = match one.side {
            Side::Source => "to",
            Side::Destination => "from",
        };
        table.row(&[
            one.id.clone(),
            format!("{}/{}", one.namespace, one.pod),
            format!("{direction} {}", peer(one)),
            one.phase.words().to_owned(),
            ago(one.started_ns),
            one.freeze_ms.map(show_millis).unwrap_or_default(),
            show_bytes(one.bytes_sent),
        ]);
        if !one.message.is_empty() {
            table.note(&one.message);
        }
    }
    table.render()
}

/// The other node's name, or where it is.
pub fn peer(one: &Progress) -> &str {
    if one.peer.is_empty() {
        &one.peer_endpoint
    } else {
        &one.peer
    }
}

/// The beginning of an id: enough to tell it.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn ago(at_ns: u64) -> String {
    format!(
        "{} ago",
        show_millis(now_ns().saturating_sub(at_ns) / 1_000_000)
    )
}

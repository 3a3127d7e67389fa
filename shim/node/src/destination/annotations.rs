//! The annotations of a destination pod.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{Connections, Migration};
use crate::units;

/// Names the source.
pub const FROM: &str = "mycedrive.io/migrate-from";
/// Names an archive to restore from.
pub const RESTORE: &str = "mycedrive.io/restore-from";
/// Beginning of the endpoint of a migration whose source is an archive.
const ARCHIVE: &str = "archive:";
const DOWNTIME: &str = "mycedrive.io/max-downtime";
const BANDWIDTH: &str = "mycedrive.io/bandwidth";
const CONNECTIONS: &str = "mycedrive.io/connections";
const ENGINE: &str = "mycedrive.io/engine";
const ROUNDS: &str = "mycedrive.io/volume-rounds";
const PREFIX: &str = "mycedrive.io/";
/// Read by the shim or on the source; nothing here to check.
const OTHERS: &[&str] = &[
    "mycedrive.io/on-terminate",
    "mycedrive.io/volumes",
    "mycedrive.io/source-volumes",
];
/// Most rounds that can be asked for.
const MOST_ROUNDS: u32 = 100;

/// An annotation that cannot be used; says which, what it holds, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// A value of the wrong form.
    #[error("annotation {name}: {value:?} is not allowed: it must be {allowed}")]
    Value {
        /// The annotation.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// A name of ours that does not exist: most likely a slip.
    #[error(
        "annotation {name} is unknown: the known ones are {FROM}, {RESTORE}, {DOWNTIME}, \
         {BANDWIDTH}, {CONNECTIONS}, {ENGINE}, {ROUNDS}"
    )]
    Unknown {
        /// The annotation.
        name: String,
    },
    /// Two sources.
    #[error("annotations {FROM} and {RESTORE} exclude each other: a pod has one source")]
    Both,
}

/// What the annotations ask for, with the configuration's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// `host:port` of the source node.
    pub endpoint: String,
    /// Kubernetes namespace of the source pod.
    pub namespace: String,
    /// Name of the source pod.
    pub pod: String,
    /// Target for the freeze.
    pub max_downtime: Duration,
    /// Bytes per second; 0: no limit.
    pub bandwidth: u64,
    /// Whether connections are kept.
    pub keep_connections: bool,
    /// Rounds before the freeze; `None`: as many as are of use.
    pub rounds: Option<u32>,
    /// Name of the archive that is the source, instead of a node.
    pub archive: Option<String>,
}

/// The annotation of a pod that is restored from an archive, as YAML.
pub fn restore_annotation(archive: &str) -> String {
    format!("{RESTORE}: \"{archive}\"")
}

/// Whether an endpoint stands for an archive.
pub fn is_archive(endpoint: &str) -> bool {
    endpoint.starts_with(ARCHIVE)
}

/// Reads a pod's annotations. `None` when it is not a destination.
pub fn parse(
    annotations: &HashMap<String, String>,
    defaults: &Migration,
) -> Result<Option<Wish>, AnnotationError> {
    let (from, archive) = match (annotations.get(FROM), annotations.get(RESTORE)) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(AnnotationError::Both),
        (from, archive) => (from, archive),
    };
    for name in annotations.keys() {
        let known = [
            FROM,
            RESTORE,
            DOWNTIME,
            BANDWIDTH,
            CONNECTIONS,
            ENGINE,
            ROUNDS,
        ];
        if name.starts_with(PREFIX)
            && !known.contains(&name.as_str())
            && !OTHERS.contains(&name.as_str())
        {
            return Err(AnnotationError::Unknown { name: name.clone() });
        }
    }
    if let Some(archive) = archive {
        return Ok(Some(from_archive(archive, defaults)?));
    }
    let from = from.map(String::as_str).unwrap_or_default();
    let (endpoint, namespace, pod) = source(from).ok_or_else(|| {
        value(
            FROM,
            from,
            "HOST:PORT/NAMESPACE/POD such as \"node-a.example:7843/shop/redis-0\"",
        )
    })?;
    let max_downtime = match annotations.get(DOWNTIME) {
        None => defaults.max_downtime,
        Some(text) => units::duration(text)
            .map_err(|_| value(DOWNTIME, text, "a duration such as 300ms or 2s"))?,
    };
    let bandwidth = match annotations.get(BANDWIDTH) {
        None => defaults.bandwidth,
        Some(text) => units::rate(text).map_err(|_| {
            value(
                BANDWIDTH,
                text,
                "a rate such as 10mbit, 5MB/s or \"unlimited\"",
            )
        })?,
    };
    let keep_connections = match annotations.get(CONNECTIONS).map(String::as_str) {
        None => defaults.connections == Connections::Keep,
        Some("keep") => true,
        Some("close") => false,
        Some(text) => return Err(value(CONNECTIONS, text, "\"keep\" or \"close\"")),
    };
    match annotations.get(ENGINE).map(String::as_str) {
        None | Some("auto" | "criu" | "dmtcp") => {}
        Some(text) => {
            let allowed = "\"auto\", \"criu\" or \"dmtcp\" on a destination pod";
            return Err(value(ENGINE, text, allowed));
        }
    }
    let rounds = match annotations.get(ROUNDS).map(String::as_str) {
        None | Some("auto") => None,
        Some(text) => match text.parse() {
            Ok(number) if number <= MOST_ROUNDS => Some(number),
            _ => return Err(value(ROUNDS, text, "\"auto\" or a number from 0 to 100")),
        },
    };
    Ok(Some(Wish {
        rounds,
        endpoint: endpoint.to_owned(),
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        max_downtime,
        bandwidth,
        keep_connections,
        archive: None,
    }))
}

/// From an archive: connections of that time are no more.
fn from_archive(name: &str, defaults: &Migration) -> Result<Wish, AnnotationError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 253 || name.starts_with('.') || !name.bytes().all(plain) {
        let allowed = "the name of an archive that `mycedrive restore` put on this node";
        return Err(value(RESTORE, name, allowed));
    }
    Ok(Wish {
        endpoint: format!("{ARCHIVE}{name}"),
        namespace: String::new(),
        pod: name.to_owned(),
        max_downtime: defaults.max_downtime,
        bandwidth: 0,
        keep_connections: false,
        rounds: None,
        archive: Some(name.to_owned()),
    })
}

fn value(name: &'static str, value: &str, allowed: &'static str) -> AnnotationError {
    let value = value.to_owned();
    AnnotationError::Value {
        name,
        value,
        allowed,
    }
}

fn source(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.split('/');
    let (endpoint, namespace, pod) = (parts.next()?, parts.next()?, parts.next()?);
    crate::peers::split_endpoint(endpoint)?;
    let named = |name: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        !name.is_empty() && name.len() <= 253 && name.chars().all(allowed)
    };
    (parts.next().is_none() && named(namespace) && named(pod)).then_some((endpoint, namespace, pod))
}

#[cfg(test)]
mod tests;

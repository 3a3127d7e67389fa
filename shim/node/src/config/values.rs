//! Values of the configuration that are written as text.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::units;

/// What happens to a pod's open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    /// They go on on the destination.
    Keep,
    /// They are closed.
    Close,
}

/// What carries the containers of pods that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The first that can carry the program.
    Auto,
    /// DMTCP; what it cannot carry goes to CRIU.
    Dmtcp,
    /// CRIU.
    Criu,
    /// Nothing.
    None,
}

/// Who gets the pod when the link is lost after the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkLost {
    /// Nobody, until the nodes can talk or a person decides.
    Hold,
    /// The source goes on.
    PreferSource,
    /// The destination runs it.
    PreferDestination,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    units::duration(&String::deserialize(from)?).map_err(D::Error::custom)
}

pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    units::size(&String::deserialize(from)?).map_err(D::Error::custom)
}

pub(super) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    units::rate(&String::deserialize(from)?).map_err(D::Error::custom)
}

pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("{text:?} is not {ADDRESS}")))
}

pub(super) fn address_or_empty<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| D::Error::custom(format!("{text:?} is not {ADDRESS}, or empty")))
}

pub(super) fn endpoint_or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() || crate::peers::split_endpoint(&text).is_some() {
        return Ok(text);
    }
    Err(D::Error::custom(format!(
        "{text:?} is not host:port such as \"node-a.example:7843\" or \"[fd00::1]:7843\", or empty"
    )))
}

const ADDRESS: &str = "an IP address and port such as \"0.0.0.0:7843\" or \"[::]:7843\"";

//! Numbers for Prometheus: counted where migrations change, served as text over HTTP.

mod http;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::app::App;
use crate::pki;
use crate::progress::{Phase, Progress, Side};

pub use http::serve;

/// Upper bounds of the freeze histogram, milliseconds.
const BUCKETS: [u64; 9] = [50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000];

/// What was counted since the daemon started.
#[derive(Debug, Default)]
pub struct Counters {
    inner: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    ended: BTreeMap<(&'static str, &'static str), u64>,
    bytes: BTreeMap<&'static str, u64>,
    freezes: [u64; BUCKETS.len()],
    freeze_count: u64,
    freeze_millis: u64,
}

/// What a change is counted against.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    phase: Phase,
    bytes_sent: u64,
    freeze_ms: Option<u64>,
}

impl Seen {
    /// Before the change.
    pub fn of(progress: &Progress) -> Self {
        Self {
            phase: progress.phase,
            bytes_sent: progress.bytes_sent,
            freeze_ms: progress.freeze_ms,
        }
    }
}

impl Counters {
    /// A migration changed.
    pub fn changed(&self, before: Seen, after: &Progress) {
        let mut counted = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let side = side(after.side);
        if after.phase != before.phase
            && let Some(outcome) = outcome(before.phase, after.phase)
        {
            *counted.ended.entry((side, outcome)).or_default() += 1;
        }
        let sent = after.bytes_sent.saturating_sub(before.bytes_sent);
        *counted.bytes.entry(side).or_default() += sent;
        if let (None, Some(millis), Side::Destination) =
            (before.freeze_ms, after.freeze_ms, after.side)
        {
            for (count, bound) in counted.freezes.iter_mut().zip(BUCKETS) {
                *count += u64::from(millis <= bound);
            }
            counted.freeze_count += 1;
            counted.freeze_millis += millis;
        }
    }

    fn write(&self, text: &mut String) {
        let counted = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        head(
            text,
            "migrations_total",
            "counter",
            "Migrations by their outcome",
        );
        for ((side, outcome), count) in &counted.ended {
            let labels = format!("side=\"{side}\",outcome=\"{outcome}\"");
            let _ = writeln!(text, "mycedrive_migrations_total{{{labels}}} {count}");
        }
        head(text, "sent_bytes_total", "counter", "Bytes on the wire");
        for (side, bytes) in &counted.bytes {
            let _ = writeln!(
                text,
                "mycedrive_sent_bytes_total{{side=\"{side}\"}} {bytes}"
            );
        }
        head(
            text,
            "freeze_seconds",
            "histogram",
            "How long pods stood still on their way here",
        );
        for (count, bound) in counted.freezes.iter().zip(BUCKETS) {
            let bound = seconds(bound);
            let _ = writeln!(
                text,
                "mycedrive_freeze_seconds_bucket{{le=\"{bound}\"}} {count}"
            );
        }
        let count = counted.freeze_count;
        let _ = writeln!(
            text,
            "mycedrive_freeze_seconds_bucket{{le=\"+Inf\"}} {count}"
        );
        let _ = writeln!(
            text,
            "mycedrive_freeze_seconds_sum {}",
            seconds(counted.freeze_millis)
        );
        let _ = writeln!(text, "mycedrive_freeze_seconds_count {count}");
    }
}

/// Everything, in Prometheus' text format.
pub fn render(app: &App) -> String {
    let mut text = String::new();
    head(&mut text, "build_info", "gauge", "Version of the daemon");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(text, "mycedrive_build_info{{version=\"{version}\"}} 1");
    app.migrations.counters().write(&mut text);

    let mut active: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for one in app.migrations.list() {
        if !one.phase.ended() {
            *active
                .entry((side(one.side), phase(one.phase)))
                .or_default() += 1;
        }
    }
    head(
        &mut text,
        "migrations_active",
        "gauge",
        "Migrations that have not ended",
    );
    for ((side, phase), count) in active {
        let labels = format!("side=\"{side}\",phase=\"{phase}\"");
        let _ = writeln!(text, "mycedrive_migrations_active{{{labels}}} {count}");
    }
    head(
        &mut text,
        "shims",
        "gauge",
        "Shims with a socket on this node",
    );
    let _ = writeln!(text, "mycedrive_shims {}", app.shims.ids().len());
    if let Ok(certificates) = pki::show(&app.config.pki_dir) {
        head(
            &mut text,
            "certificate_seconds_left",
            "gauge",
            "Time until a certificate ends; negative when it is over",
        );
        for one in certificates {
            let kind = if one.ca { "ca" } else { "node" };
            let left = one.seconds_left;
            let _ = writeln!(
                text,
                "mycedrive_certificate_seconds_left{{kind=\"{kind}\"}} {left}"
            );
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP mycedrive_{name} {help}.");
    let _ = writeln!(text, "# TYPE mycedrive_{name} {kind}");
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Destination => "destination",
    }
}

/// The outcome that a step into `after` is; a pod that runs while old connections are relayed
/// has arrived already.
fn outcome(before: Phase, after: Phase) -> Option<&'static str> {
    match after {
        Phase::Relaying => Some("completed"),
        Phase::Completed if before != Phase::Relaying => Some("completed"),
        Phase::RolledBack => Some("rolled_back"),
        Phase::Parked => Some("parked"),
        Phase::Failed => Some("failed"),
        Phase::Held => Some("held"),
        _ => None,
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Opening => "opening",
        Phase::Copying => "copying",
        Phase::Ready => "ready",
        Phase::Freezing => "freezing",
        Phase::Restoring => "restoring",
        Phase::Deciding => "deciding",
        Phase::Relaying => "relaying",
        Phase::Completed => "completed",
        Phase::RolledBack => "rolled_back",
        Phase::Parked => "parked",
        Phase::Held => "held",
        Phase::Failed => "failed",
    }
}

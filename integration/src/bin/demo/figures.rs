//! The demo's numbers, from what the client saw and what the destination's daemon recorded.

use mycedrive_node::progress::Progress;
use serde::Serialize;

use mycedrive_integration::workload::report::Report;

/// What `cargo demo -- --json FILE` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// What moved the pod: `criu`, `dmtcp`, or `kill-and-start`.
    pub engine: String,
    /// Answered requests.
    pub ops: usize,
    /// Answered requests before the move, while it ran, and after it.
    pub ops_before: usize,
    /// See `ops_before`.
    pub ops_during: usize,
    /// See `ops_before`.
    pub ops_after: usize,
    /// Answered writes that are missing later.
    pub lost: u64,
    /// Writes that happened twice.
    pub doubled: u64,
    /// Requests without a valid answer, broken connections included.
    pub errors: u64,
    /// TCP connections that the client needed.
    pub connections: u64,
    /// The longest time without an answer, from the start of the move on, milliseconds.
    pub longest_gap_ms: f64,
    /// No process of the pod ran, milliseconds; not measured for kill-and-start.
    pub freeze_ms: Option<u64>,
    /// From the request to start the new pod to its answer, milliseconds.
    pub total_ms: u64,
    /// On the wire between the nodes.
    pub bytes_sent: u64,
    /// The same before compression.
    pub bytes_raw: u64,
    /// Milliseconds since the start of the move, and what happened.
    pub timeline: Vec<Mark>,
}

/// The numbers of the first migration, with those of the other engines as `others` and those of
/// kill-and-start as `baseline`.
pub fn json(moved: &[Figures], baseline: &Figures) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(moved.first())?;
    if moved.len() > 1 {
        value["others"] = serde_json::to_value(&moved[1..])?;
    }
    value["baseline"] = serde_json::to_value(baseline)?;
    Ok(value)
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// Milliseconds since the start of the move.
    pub at_ms: f64,
    /// A short stable name.
    pub name: String,
    /// For people; may be empty.
    pub detail: String,
}

/// When the move was asked for and when it was answered, `CLOCK_REALTIME` nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The request.
    pub from_ns: u64,
    /// The answer.
    pub to_ns: u64,
}

impl Figures {
    /// Puts them together. `progress` is there for a migration.
    pub fn new(engine: &str, report: &Report, span: Span, progress: Option<&Progress>) -> Self {
        let gap = report.longest_gap(span.from_ns, u64::MAX);
        Self {
            engine: engine.to_owned(),
            ops: report.answers.len(),
            ops_before: report.operations(0, span.from_ns),
            ops_during: report.operations(span.from_ns, span.to_ns),
            ops_after: report.operations(span.to_ns, u64::MAX),
            lost: report.lost,
            doubled: report.doubled,
            errors: report.errors,
            connections: report.connections,
            longest_gap_ms: gap.map_or(f64::INFINITY, |gap| gap.milliseconds),
            freeze_ms: progress.and_then(|progress| progress.freeze_ms),
            total_ms: (span.to_ns - span.from_ns) / 1_000_000,
            bytes_sent: progress.map_or(0, |progress| progress.bytes_sent),
            bytes_raw: progress.map_or(0, |progress| progress.bytes_raw),
            timeline: progress
                .map(|progress| timeline(progress, span))
                .unwrap_or_default(),
        }
    }

    /// Nothing lost, nothing doubled, no error, one connection, and the client went on.
    pub fn nothing_lost(&self) -> bool {
        self.lost == 0
            && self.doubled == 0
            && self.errors == 0
            && self.connections == 1
            && self.ops_before > 0
            && self.ops_after > 0
    }
}

fn timeline(progress: &Progress, span: Span) -> Vec<Mark> {
    progress
        .events
        .iter()
        .map(|event| Mark {
            at_ms: (event.at_ns as f64 - span.from_ns as f64) / 1e6,
            name: event.name.clone(),
            detail: event.detail.clone(),
        })
        .collect()
}

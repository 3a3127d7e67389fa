//! `mycedrive report`: what happened in a migration, and when.

use std::fmt::Write as _;

use super::ps::peer;
use super::table::Table;
use crate::progress::{Event, Progress, Side};
use crate::units::{show_bytes, show_millis};

/// A heading, the numbers, and the events with the time since the beginning and since the
/// event before.
pub fn text(one: &Progress) -> String {
    let mut text = String::new();
    let direction = match one.side {
        Side::Source => "to",
        Side::Destination => "from",
    };
    let _ = writeln!(text, "migration {}", one.id);
    let _ = writeln!(
        text,
        "pod       {}/{} {direction} {}",
        one.namespace,
        one.pod,
        peer(one)
    );
    let _ = writeln!(text, "phase     {}", one.phase.words());
    if !one.message.is_empty() {
        let _ = writeln!(text, "          {}", one.message);
    }
    let _ = writeln!(
        text,
        "sent      {} on the wire, {} before compression, {} round(s)",
        show_bytes(one.bytes_sent),
        show_bytes(one.bytes_raw),
        one.round
    );
    if let Some(freeze) = one.freeze_ms {
        let _ = writeln!(text, "freeze    {}", show_millis(freeze));
    }
    if one.events.is_empty() {
        return text;
    }
    text.push('\n');
    let mut table = Table::new(&["AT", "AFTER", "EVENT", "DETAIL"]);
    let mut before = one.started_ns;
    for event in &ordered(one) {
        table.row(&[
            show_fine(event.at_ns.saturating_sub(one.started_ns)),
            show_fine(event.at_ns.saturating_sub(before)),
            event.name.clone(),
            event.detail.clone(),
        ]);
        before = event.at_ns;
    }
    text.push_str(&table.render());
    text
}

/// The events by their time: some are recorded with the time at which the other side saw them.
pub fn ordered(one: &Progress) -> Vec<Event> {
    let mut events = one.events.clone();
    events.sort_by_key(|event| event.at_ns);
    events
}

/// Below a second with a digit more than [`show_millis`].
pub fn show_fine(nanos: u64) -> String {
    if nanos < 1_000_000_000 {
        format!("{:.1} ms", nanos as f64 / 1e6)
    } else {
        show_millis(nanos / 1_000_000)
    }
}

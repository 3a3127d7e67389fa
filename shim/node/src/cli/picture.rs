//! The timeline of a migration as an SVG picture: a row for each event, a bar for the time that
//! led to it, the freeze shaded behind them.

use std::fmt::Write as _;

use super::ps::peer;
use super::report::{ordered, show_fine};
use crate::progress::{Event, Progress, Side};
use crate::units::show_millis;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 64.0;
const ROW: f64 = 24.0;

/// Events that come long after the migration: they would squeeze everything else.
const AFTERWARDS: [&str; 1] = ["route-ended"];

/// The picture. Empty of rows where nothing happened yet.
pub fn svg(one: &Progress) -> String {
    let events: Vec<Event> = ordered(one)
        .into_iter()
        .filter(|event| !AFTERWARDS.contains(&event.name.as_str()))
        .collect();
    let end = events.last().map_or(one.started_ns, |event| event.at_ns);
    let span = end.saturating_sub(one.started_ns).max(1) as f64;
    let x = |at_ns: u64| {
        LEFT + at_ns.saturating_sub(one.started_ns) as f64 / span * (WIDTH - LEFT - RIGHT)
    };
    let height = TOP + ROW * events.len() as f64 + 20.0;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    label(&mut text, 16.0, 24.0, 16, &title(one));
    label(&mut text, 16.0, 44.0, 12, &subtitle(one));
    if let Some((from, to)) = freeze(&events) {
        let (from, to) = (x(from), x(to));
        let _ = writeln!(
            text,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" \
             fill=\"#fde2e1\"/>",
            (to - from).max(1.0),
            ROW * events.len() as f64
        );
    }
    let mut before = one.started_ns;
    for (row, event) in events.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (from, to) = (x(before), x(event.at_ns));
        let _ = writeln!(
            text,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" \
             fill=\"#3b6ea5\"/>",
            y + 5.0,
            (to - from).max(2.0),
            ROW - 10.0
        );
        label(&mut text, 16.0, y + 17.0, 13, &event.name);
        let mut words = format!("+{}", show_fine(event.at_ns.saturating_sub(before)));
        if !event.detail.is_empty() {
            let _ = write!(words, "  {}", event.detail);
        }
        label(&mut text, to.max(from + 2.0) + 6.0, y + 17.0, 11, &words);
        before = event.at_ns;
    }
    text.push_str("</svg>\n");
    text
}

fn title(one: &Progress) -> String {
    let direction = match one.side {
        Side::Source => "to",
        Side::Destination => "from",
    };
    format!(
        "{}/{} {direction} {}: {}",
        one.namespace,
        one.pod,
        peer(one),
        one.phase.words()
    )
}

fn subtitle(one: &Progress) -> String {
    let mut text = format!("migration {}", one.id);
    if let Some(freeze) = one.freeze_ms {
        let _ = write!(text, ", froze {} (shaded)", show_millis(freeze));
    }
    text
}

/// From the last process stopped to the first that runs again.
fn freeze(events: &[Event]) -> Option<(u64, u64)> {
    let at = |name: &str| events.iter().find(|event| event.name == name);
    let from = at("frozen")?.at_ns;
    let to = at("run").map_or(events.last()?.at_ns, |event| event.at_ns);
    (from <= to).then_some((from, to))
}

fn label(text: &mut String, x: f64, y: f64, size: u32, words: &str) {
    let _ = writeln!(
        text,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\">{}</text>",
        escaped(words)
    );
}

fn escaped(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            // XML has no other control characters.
            control if control.is_control() => text.push(' '),
            other => text.push(other),
        }
    }
    text
}

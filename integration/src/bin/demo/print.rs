//! The demo's numbers for people.

use std::fmt::Write as _;

use super::figures::Figures;

/// What happened, a line each.
pub fn timeline(figures: &Figures) -> String {
    let mut text = format!(
        "Timeline with {} (ms since the new pod was asked for)\n",
        figures.engine
    );
    for mark in &figures.timeline {
        let _ = writeln!(
            text,
            "  {:>9.1}  {:<12} {}",
            mark.at_ms, mark.name, mark.detail
        );
    }
    text
}

/// The ways of moving, side by side.
pub fn table(columns: &[&Figures]) -> String {
    type Row = (&'static str, fn(&Figures) -> String);
    let rows: [Row; 12] = [
        ("freeze", |f| {
            f.freeze_ms
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
        }),
        ("longest gap for the client", |f| {
            format!("{:.0} ms", f.longest_gap_ms)
        }),
        ("new pod asked for to running", |f| {
            format!("{} ms", f.total_ms)
        }),
        ("sent between the nodes", |f| bytes(f.bytes_sent)),
        ("before compression", |f| bytes(f.bytes_raw)),
        ("operations before", |f| f.ops_before.to_string()),
        ("operations during", |f| f.ops_during.to_string()),
        ("operations after", |f| f.ops_after.to_string()),
        ("writes lost", |f| f.lost.to_string()),
        ("writes doubled", |f| f.doubled.to_string()),
        ("errors", |f| f.errors.to_string()),
        ("connections used", |f| f.connections.to_string()),
    ];
    let mut text = format!("{:<30}", "");
    for figures in columns {
        let _ = write!(text, "{:>16}", figures.engine);
    }
    text.push('\n');
    for (name, value) in rows {
        let _ = write!(text, "{name:<30}");
        for figures in columns {
            let _ = write!(text, "{:>16}", value(figures));
        }
        text.push('\n');
    }
    text
}

/// A progress bar, `width` characters wide.
pub fn bar(percent: u8, width: usize) -> String {
    let full = usize::from(percent.min(100)) * width / 100;
    format!("[{}{}]", "#".repeat(full), ".".repeat(width - full))
}

/// `1.2 MB`, decimal units.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

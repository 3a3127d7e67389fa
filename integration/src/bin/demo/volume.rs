//! `cargo demo -- --volume SIZE`: the same pod with a volume, moved with 0, 1, 2 and as many
//! rounds as are of use.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::Testbed;
use mycedrive_integration::workload::volume::{Case, Moved, move_once};

use crate::print;

const WAYS: [&str; 4] = ["0", "1", "2", "auto"];
/// Width of a bar of the picture, in milliseconds.
const BUCKET_MS: u64 = 100;

/// Moves the pod in each way, prints a table and writes `picture`. False: something was lost.
pub fn run(testbed: &Testbed, size: u64, picture: &Path) -> Result<bool> {
    println!(
        "\nRedis with an append-only file, and a writer, on a volume of {} (4 MB of it are written \
         over and over, 1 MB/s)",
        print::bytes(size)
    );
    let mut all = Vec::new();
    for rounds in WAYS {
        println!("\n  volume-rounds: {rounds}");
        let case = Case {
            rounds: rounds.to_owned(),
            base: size.saturating_sub(4_000_000),
            written: 1_000_000,
            file: 4_000_000,
            plain: false,
            client: true,
        };
        let moved = move_once(testbed, &case)?;
        for round in &moved.rounds {
            println!("    round {round}");
        }
        println!("    freeze {} ms", moved.freeze_ms);
        all.push((rounds, moved));
    }
    println!("\n{}", table(&all)?);
    std::fs::write(picture, svg(&all)?)
        .with_context(|| format!("cannot write {}", picture.display()))?;
    println!("client throughput over time: {}", picture.display());
    let clean = |moved: &Moved| {
        moved
            .report
            .as_ref()
            .is_some_and(|r| r.is_clean() && r.connections == 1)
    };
    Ok(all.iter().all(|(_, moved)| clean(moved)))
}

fn table(all: &[(&str, Moved)]) -> Result<String> {
    let mut text = format!(
        "{:<8}{:>8}{:>12}{:>14}{:>14}{:>12}{:>8}\n",
        "rounds", "done", "freeze", "client's gap", "sent", "total", "lost"
    );
    for (name, moved) in all {
        let report = moved.report.as_ref().context("the client's report")?;
        let gap = report
            .longest_gap(moved.span.0, u64::MAX)
            .context("the client fell silent")?;
        let _ = writeln!(
            text,
            "{name:<8}{:>8}{:>9} ms{:>11.0} ms{:>14}{:>9} ms{:>8}",
            moved.rounds.len(),
            moved.freeze_ms,
            gap.milliseconds,
            print::bytes(moved.bytes_sent),
            (moved.span.1 - moved.span.0) / 1_000_000,
            report.lost + report.doubled + report.errors,
        );
    }
    Ok(text)
}

/// Answers in each tenth of a second, one row for each way, from a second before the move.
fn svg(all: &[(&str, Moved)]) -> Result<String> {
    const WIDTH: f64 = 860.0;
    const ROW: f64 = 120.0;
    let mut rows = Vec::new();
    for (name, moved) in all {
        let report = moved.report.as_ref().context("the client's report")?;
        let start = moved.span.0.saturating_sub(1_000_000_000);
        let last = report.answers.last().context("no answers")?.at_ns;
        let buckets = last.saturating_sub(start) / (BUCKET_MS * 1_000_000) + 1;
        let mut counts = vec![0_u32; buckets as usize];
        for answer in report.answers.iter().filter(|answer| answer.at_ns >= start) {
            counts[((answer.at_ns - start) / (BUCKET_MS * 1_000_000)) as usize] += 1;
        }
        rows.push((*name, moved, counts));
    }
    let longest = rows
        .iter()
        .map(|(_, _, counts)| counts.len())
        .max()
        .unwrap_or(1);
    let most = rows
        .iter()
        .flat_map(|(_, _, counts)| counts)
        .max()
        .copied()
        .unwrap_or(1);
    ensure!(most > 0, "the client got no answer");
    let height = ROW * rows.len() as f64 + 50.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"20\" y=\"20\" font-size=\"15\">Answers of Redis each 100 ms while its pod moves, \
         by pre-copy rounds</text>\n"
    );
    let step = WIDTH / longest as f64;
    for (number, (name, moved, counts)) in rows.iter().enumerate() {
        let bottom = 40.0 + ROW * (number as f64 + 1.0) - 20.0;
        let _ = writeln!(
            text,
            "<text x=\"20\" y=\"{}\">{name} rounds: freeze {} ms</text>",
            bottom - 82.0,
            moved.freeze_ms
        );
        for (at, count) in counts.iter().enumerate() {
            let tall = 75.0 * f64::from(*count) / f64::from(most);
            let _ = writeln!(
                text,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{tall:.1}\" fill=\"#2b6cb0\"/>",
                60.0 + step * at as f64,
                bottom - tall,
                step.max(0.5)
            );
        }
        let _ = writeln!(
            text,
            "<line x1=\"60\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\" stroke=\"#718096\"/>\
             <text x=\"20\" y=\"{bottom}\">{most}</text>",
            60.0 + WIDTH
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"60\" y=\"{}\">0 s</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.1} s</text>\n</svg>",
        height - 8.0,
        60.0 + WIDTH,
        height - 8.0,
        longest as f64 * BUCKET_MS as f64 / 1000.0
    );
    Ok(text)
}

/// `400M`, `2G`, or bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.to_ascii_uppercase().chars().last() {
        Some('K') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        Some('G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no size such as 400M"))?;
    match number.checked_mul(unit) {
        Some(bytes) if (8_000_000..=20_000_000_000).contains(&bytes) => Ok(bytes),
        _ => Err("a size from 8M to 20G".to_owned()),
    }
}

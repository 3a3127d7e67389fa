use clap::CommandFactory as _;

use super::args::Args;
use super::*;
use crate::progress::{Event, Phase, Progress, Side};

fn progress() -> Progress {
    let mut one = Progress::new("3f2a9c1e-77", Side::Destination);
    one.namespace = "shop".to_owned();
    one.pod = "redis-1".to_owned();
    one.peer = "node-a".to_owned();
    one.phase = Phase::Copying;
    one.round = 2;
    one.round_total = 100;
    one.round_done = 43;
    one.bytes_sent = 92 << 20;
    one.rate = 10 << 20;
    one.estimated_freeze_ms = Some(180);
    one
}

#[test]
fn the_command_line_is_sound() {
    Args::command().debug_assert();
    assert!(Args::try_parse_from(["mycedrive", "resolve", "x"]).is_err());
    assert!(
        Args::try_parse_from(["mycedrive", "resolve", "x", "--run-here", "--run-there"]).is_err()
    );
    assert!(Args::try_parse_from(["mycedrive", "resolve", "x", "--discard"]).is_ok());
}

#[test]
fn the_bar_shows_round_bytes_rate_and_freeze() {
    let bar = watch::bar(&progress());
    assert_eq!(
        bar,
        "3f2a9c1e shop/redis-1 from node-a [##########--------------]  43 % copying, round 2, \
         92.0 MiB, 10.0 MiB/s, freeze about 180 ms"
    );
}

#[test]
fn the_report_has_times_between_events() {
    let mut one = progress();
    for (after, name) in [(1_500_000, "open"), (2_000_000_000, "frozen")] {
        one.events.push(Event {
            at_ns: one.started_ns + after,
            name: name.to_owned(),
            detail: String::new(),
        });
    }
    let text = report::text(&one);
    assert!(text.contains("1.5 ms  1.5 ms  open"), "{text}");
    assert!(text.contains("2.0 s   2.0 s   frozen"), "{text}");
}

#[test]
fn lists_say_when_they_are_empty() {
    assert!(ps::pods(&[]).contains("runtimeClassName"));
    assert!(ps::migrations(&[]).contains("no migrations"));
    assert!(ps::migrations(&[progress()]).contains("from node-a"));
}

#[test]
fn the_picture_shades_the_freeze_and_escapes_words() {
    let mut one = progress();
    one.freeze_ms = Some(90);
    for (after_ms, name) in [
        (120, "run"),
        (10, "open"),
        (30, "frozen"),
        (60_000, "route-ended"),
    ] {
        one.events.push(Event {
            at_ns: one.started_ns + after_ms * 1_000_000,
            name: name.to_owned(),
            detail: "<b> & \"c\"".to_owned(),
        });
    }
    let svg = picture::svg(&one);
    assert!(svg.contains("fill=\"#fde2e1\""), "{svg}");
    assert!(
        svg.contains("&lt;b&gt; &amp; &quot;c&quot;") && !svg.contains("<b>"),
        "{svg}"
    );
    assert!(!svg.contains("route-ended"), "{svg}");
    let (open, run) = (svg.find(">open<"), svg.find(">run<"));
    assert!(open.is_some() && open < run, "in order of time");
    assert_eq!(
        picture::svg(&Progress::new("x", Side::Source))
            .matches("<rect")
            .count(),
        1
    );
}

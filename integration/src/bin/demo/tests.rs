//! The demo's verdict and its printing.

use crate::figures::{Figures, Span};
use crate::print;
use mycedrive_integration::workload::report::{Answer, Report};

fn report(values: &[(u64, u64)]) -> Report {
    let answers = values.iter().map(|&(ms, value)| Answer {
        at_ns: ms * 1_000_000,
        value,
    });
    Report {
        answers: answers.collect(),
        connections: 1,
        ..Report::default()
    }
}

const SPAN: Span = Span {
    from_ns: 10_000_000,
    to_ns: 200_000_000,
};

#[test]
fn a_clean_run_lost_nothing() {
    let figures = Figures::new(
        "criu",
        &report(&[(1, 1), (5, 2), (12, 3), (162, 4), (210, 5)]),
        SPAN,
        None,
    );
    assert!(figures.nothing_lost());
    assert!((figures.longest_gap_ms - 150.0).abs() < 1e-9);
    assert_eq!(
        (figures.ops_before, figures.ops_during, figures.ops_after),
        (2, 2, 1)
    );
    assert_eq!(figures.total_ms, 190);
}

#[test]
fn a_client_that_fell_silent_is_not_a_success() {
    let figures = Figures::new("criu", &report(&[(1, 1), (5, 2)]), SPAN, None);
    assert!(!figures.nothing_lost());
    assert!(figures.longest_gap_ms.is_infinite());
}

#[test]
fn each_kind_of_loss_fails_the_run() {
    let clean = report(&[(1, 1), (210, 2)]);
    for spoil in [
        (|r: &mut Report| r.lost = 1) as fn(&mut Report),
        |r| r.doubled = 1,
        |r| r.errors = 1,
        |r| r.connections = 2,
    ] {
        let mut report = clean.clone();
        spoil(&mut report);
        assert!(!Figures::new("criu", &report, SPAN, None).nothing_lost());
    }
}

#[test]
fn the_table_has_a_column_for_each() {
    let figures = Figures::new("criu", &report(&[(1, 1), (210, 2)]), SPAN, None);
    let table = print::table(&[figures.clone(), figures]);
    assert!(table.lines().all(|line| line.len() == 62), "{table}");
}

#[test]
fn sizes_and_bars_read_well() {
    assert_eq!(print::bytes(1_234_567), "1.2 MB");
    assert_eq!(print::bar(50, 4), "[##..]");
    assert_eq!(print::bar(255, 2), "[##]");
}

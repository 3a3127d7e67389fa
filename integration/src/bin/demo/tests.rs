//! The demo's verdict and its printing.

use std::path::Path;

use mycedrive_integration::workload::report::{Answer, Report};
use mycedrive_node::operator::pods::{ContainerInfo, PodInfo};

use crate::engine::{Choice, carried};
use crate::figures::{Figures, Span, json};
use crate::print;

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
    let table = print::table(&[&figures, &figures, &figures]);
    assert!(table.lines().all(|line| line.len() == 78), "{table}");
}

#[test]
fn sizes_and_bars_read_well() {
    assert_eq!(print::bytes(1_234_567), "1.2 MB");
    assert_eq!(print::bar(50, 4), "[##..]");
    assert_eq!(print::bar(255, 2), "[##]");
}

#[test]
fn engines_are_shown_one_after_the_other() {
    assert_eq!(Choice::Criu.engines(), ["criu"]);
    assert_eq!(Choice::Dmtcp.engines(), ["dmtcp"]);
    assert_eq!(Choice::Both.engines(), ["criu", "dmtcp"]);
}

#[test]
fn dmtcp_has_to_be_installed_where_it_is_shown() {
    for choice in [Choice::Dmtcp, Choice::Both] {
        let message = choice.check(None).unwrap_err().to_string();
        assert!(
            ["/opt/dmtcp", "PATH", "--prefix"]
                .iter()
                .all(|part| message.contains(part)),
            "{message}"
        );
        choice.check(Some(Path::new("/opt/dmtcp"))).unwrap();
    }
    Choice::Criu.check(None).unwrap();
}

fn pod(sandbox: &str, engine: &str, why: &str) -> PodInfo {
    let container = ContainerInfo {
        name: "redis".to_owned(),
        id: "1".to_owned(),
        state: "running".to_owned(),
        pid: 1,
        image: String::new(),
        engine: engine.to_owned(),
        engine_why: why.to_owned(),
        volumes: Vec::new(),
    };
    PodInfo {
        namespace: "shop".to_owned(),
        name: "redis-0".to_owned(),
        uid: String::new(),
        sandbox: sandbox.to_owned(),
        addresses: Vec::new(),
        containers: vec![container],
        migratable: true,
        obstacles: Vec::new(),
        migration: String::new(),
        role: String::new(),
        shim_pid: 1,
    }
}

#[test]
fn a_fallback_is_not_taken_for_the_engine() {
    let pods = [
        pod("other", "dmtcp", ""),
        pod("this", "criu", "not dmtcp: static"),
    ];
    carried(&pods, "this", "criu").unwrap();
    let message = carried(&pods, "this", "dmtcp").unwrap_err().to_string();
    assert!(
        message.contains("under criu: not dmtcp: static"),
        "{message}"
    );
    assert!(carried(&pods, "third", "dmtcp").is_err());
    let mut empty = pod("this", "dmtcp", "");
    empty.containers.clear();
    assert!(carried(&[empty], "this", "dmtcp").is_err());
}

#[test]
fn the_file_has_the_first_engine_and_the_others_beside_it() {
    let of = |engine| Figures::new(engine, &report(&[(1, 1), (210, 2)]), SPAN, None);
    let value = json(&[of("criu"), of("dmtcp")], &of("kill-and-start")).unwrap();
    assert_eq!(value["engine"], "criu");
    assert_eq!(value["ops"], 2);
    assert_eq!(value["others"][0]["engine"], "dmtcp");
    assert_eq!(value["baseline"]["engine"], "kill-and-start");
    let alone = json(&[of("dmtcp")], &of("kill-and-start")).unwrap();
    assert_eq!(alone["engine"], "dmtcp");
    assert!(alone.get("others").is_none());
}

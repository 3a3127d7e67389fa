//! The client against a small server on loopback that loses, doubles or breaks on purpose.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use super::counter;
use super::protocol::Protocol;
use super::report::{Answer, Report};

/// Answers the requests of each connection with the values given for it, then closes it.
fn serve(connections: Vec<Vec<u64>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for values in connections {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            for value in values {
                for _ in 0..5 {
                    lines.next();
                }
                write!(stream, ":{value}\r\n").unwrap();
            }
        }
    });
    address
}

fn run(connections: Vec<Vec<u64>>) -> Report {
    let service = tempfile::NamedTempFile::new().unwrap();
    write!(service.as_file(), "{}", serve(connections)).unwrap();
    let limit = Duration::from_millis(300);
    counter::run(
        service.path(),
        Protocol::Redis,
        "counter",
        Duration::ZERO,
        limit,
        Path::new("/nonexistent"),
    )
    .unwrap()
}

#[test]
fn a_write_that_is_lost_is_seen() {
    let report = run(vec![vec![1, 2, 3, 2, 3]]);
    assert_eq!(report.lost, 2);
    assert_eq!(report.doubled, 0);
    assert!(!report.is_clean());
}

#[test]
fn a_write_that_is_doubled_is_seen() {
    assert_eq!(run(vec![vec![1, 2, 4]]).doubled, 1);
}

#[test]
fn a_broken_connection_is_an_error_and_a_new_connection() {
    let report = run(vec![vec![1, 2], vec![3, 4]]);
    assert!(report.errors >= 1, "{report:?}");
    assert_eq!(report.lost, 0);
    assert!(report.connections >= 2);
    assert!(report.first_error.is_some());
}

#[test]
fn the_longest_gap_is_found_within_its_time() {
    let answers = [0, 1_000_000, 9_000_000, 30_000_000]
        .map(|at_ns| Answer { at_ns, value: 0 })
        .to_vec();
    let report = Report {
        answers,
        ..Report::default()
    };
    let gap = report.longest_gap(0, 10_000_000).unwrap();
    assert!((gap.milliseconds - 8.0).abs() < f64::EPSILON);
    assert_eq!(gap.from_ns, 1_000_000);
    assert_eq!(report.operations(0, 9_000_001), 3);
}

#[test]
fn values_that_fill_a_program_compress_to_between_a_half_and_three_quarters() {
    let of = super::redis::value;
    assert_eq!(of(7), of(7));
    let all: Vec<u8> = (0..20).flat_map(of).collect();
    let packed = zstd::bulk::compress(&all, 1).unwrap();
    let part = packed.len() * 100 / all.len();
    assert!((50..=75).contains(&part), "{part} %");
}

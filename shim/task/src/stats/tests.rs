use std::fs;

use super::{number, table, v1, v2};

#[test]
fn blkio_lines() {
    let entry = v1::blkio_line("8:16 Read 4096").unwrap();
    assert_eq!((entry.major, entry.minor), (8, 16));
    assert_eq!((entry.op.as_str(), entry.value), ("Read", 4096));
    assert!(v1::blkio_line("Total 4096").is_none());
}

#[test]
fn io_lines() {
    let entry = v2::io_line("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9").unwrap();
    assert_eq!(
        (entry.rbytes, entry.wbytes, entry.rios, entry.wios),
        (1, 2, 3, 4)
    );
}

#[test]
fn pressure_lines() {
    let data = v2::pressure_line("full avg10=0.50 avg60=0.00 avg300=0.00 total=12", "full");
    assert_eq!(data.unwrap().total, 12);
    assert!(v2::pressure_line("some avg10=0", "full").is_none());
}

#[test]
fn files_of_a_cgroup() {
    let dir = std::env::temp_dir().join(format!("mycedrive-stats-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("memory.max"), "max\n").unwrap();
    fs::write(dir.join("memory.current"), "12\n").unwrap();
    fs::write(dir.join("memory.events"), "low 0\noom_kill 2\nodd\n").unwrap();
    assert_eq!(number(&dir, "memory.max"), u64::MAX);
    assert_eq!(number(&dir, "missing"), 0);
    assert_eq!(table(&dir, "memory.events")["oom_kill"], 2);
    let metrics = v2::collect(&dir);
    assert_eq!(metrics.memory.usage, 12);
    assert_eq!(metrics.memory_events.oom_kill, 2);
    fs::remove_dir_all(&dir).unwrap();
}

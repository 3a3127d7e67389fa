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
fn rdma_lines() {
    let entry = v2::rdma_line("mlx4_0 hca_handle=2 hca_object=max").unwrap();
    assert_eq!(
        (&*entry.device, entry.hca_handles, entry.hca_objects),
        ("mlx4_0", 2, u32::MAX)
    );
    assert!(v2::rdma_line("").is_none());
}

#[test]
fn files_of_a_cgroup() {
    let dir = std::env::temp_dir().join(format!("mycedrive-stats-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("memory.max"), "max\n").unwrap();
    fs::write(dir.join("memory.current"), "12\n").unwrap();
    fs::write(dir.join("pids.max"), "max\n").unwrap();
    fs::write(dir.join("rdma.max"), "").unwrap();
    fs::write(dir.join("rdma.current"), "").unwrap();
    fs::write(dir.join("memory.events"), "low 0\noom_kill 2\nodd\n").unwrap();
    assert_eq!(number(&dir, "memory.max"), u64::MAX);
    assert_eq!(number(&dir, "missing"), 0);
    assert_eq!(table(&dir, "memory.events")["oom_kill"], 2);
    let metrics = v2::collect(&dir);
    assert_eq!(metrics.memory.usage, 12);
    assert_eq!(metrics.memory_events.oom_kill, 2);
    assert_eq!(metrics.pids.limit, u64::MAX);
    assert!(metrics.rdma.is_some());
    fs::remove_dir_all(&dir).unwrap();
}

/// Files of a group in the unified hierarchy of a 6.18 kernel, on which no controller but hugetlb was free.
const RECORDED: [(&str, &str); 6] = [
    (
        "cpu.stat",
        "usage_usec 67502\nuser_usec 52264\nsystem_usec 15237\nnice_usec 0\n",
    ),
    (
        "cpu.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=949377\n\
         full avg10=0.00 avg60=0.00 avg300=0.00 total=947606\n",
    ),
    (
        "io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n\
         full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    ),
    ("cgroup.events", "populated 1\nfrozen 0\n"),
    ("hugetlb.2MB.current", "0\n"),
    ("hugetlb.2MB.max", "9223372036854771712\n"),
];

#[test]
fn a_recorded_group_of_version_2() {
    let dir = std::env::temp_dir().join(format!("mycedrive-recorded-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    for (name, text) in RECORDED {
        fs::write(dir.join(name), text).unwrap();
    }
    let metrics = v2::collect(&dir);
    fs::remove_dir_all(&dir).unwrap();
    let cpu = &metrics.cpu;
    assert_eq!(
        (cpu.usage_usec, cpu.user_usec, cpu.system_usec),
        (67502, 52264, 15237)
    );
    assert_eq!(cpu.psi.some.total, 949_377);
    assert_eq!(cpu.psi.full.total, 947_606);
    assert!(metrics.io.psi.some.is_some());
    // Files of controllers that the group does not have.
    assert_eq!((metrics.pids.current, metrics.memory.usage), (0, 0));
    assert!(metrics.io.usage.is_empty());
    if let Some(huge) = metrics.hugetlb.iter().find(|huge| huge.pagesize == "2MB") {
        assert_eq!(huge.max, 9_223_372_036_854_771_712);
    }
}

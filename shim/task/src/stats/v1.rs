//! Counters of cgroup version 1.

use std::fs;
use std::path::Path;

use containerd_shim::protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, PidsStat, Throttle,
};

use super::{huge_page_sizes, number, table};
use crate::cgroup::Cgroup;

/// Everything that can be read; what is not there stays zero.
pub fn collect(cgroup: &Cgroup) -> Metrics {
    let mut metrics = Metrics::default();
    if let Some(directory) = cgroup.directory("pids") {
        let limit = number(directory, "pids.max");
        metrics.pids = Some(PidsStat {
            current: number(directory, "pids.current"),
            limit: if limit == u64::MAX { 0 } else { limit },
            ..PidsStat::default()
        })
        .into();
    }
    metrics.cpu = Some(cpu(cgroup)).into();
    if let Some(directory) = cgroup.directory("memory") {
        metrics.memory = Some(memory(directory)).into();
        let control = table(directory, "memory.oom_control");
        let of = |key: &str| control.get(key).copied().unwrap_or(0);
        metrics.memory_oom_control = Some(MemoryOomControl {
            oom_kill_disable: of("oom_kill_disable"),
            under_oom: of("under_oom"),
            oom_kill: of("oom_kill"),
            ..MemoryOomControl::default()
        })
        .into();
    }
    if let Some(directory) = cgroup.directory("blkio") {
        metrics.blkio = Some(blkio(directory)).into();
    }
    if let Some(directory) = cgroup.directory("hugetlb") {
        for size in huge_page_sizes() {
            metrics.hugetlb.push(HugetlbStat {
                usage: number(directory, &format!("hugetlb.{size}.usage_in_bytes")),
                max: number(directory, &format!("hugetlb.{size}.max_usage_in_bytes")),
                failcnt: number(directory, &format!("hugetlb.{size}.failcnt")),
                pagesize: size,
                ..HugetlbStat::default()
            });
        }
    }
    metrics
}

fn cpu(cgroup: &Cgroup) -> CPUStat {
    let mut stat = CPUStat::default();
    if let Some(directory) = cgroup.directory("cpuacct") {
        let per_cpu = fs::read_to_string(directory.join("cpuacct.usage_percpu"));
        // Two words each of `user 12`, in ticks of 1/100 s on every architecture.
        const NANOSECONDS_PER_TICK: u64 = 10_000_000;
        let times = table(directory, "cpuacct.stat");
        let time = |key: &str| times.get(key).copied().unwrap_or(0) * NANOSECONDS_PER_TICK;
        stat.usage = Some(CPUUsage {
            total: number(directory, "cpuacct.usage"),
            kernel: time("system"),
            user: time("user"),
            per_cpu: per_cpu
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|value| value.parse().ok())
                .collect(),
            ..CPUUsage::default()
        })
        .into();
    }
    if let Some(directory) = cgroup.directory("cpu") {
        let values = table(directory, "cpu.stat");
        let of = |key: &str| values.get(key).copied().unwrap_or(0);
        stat.throttling = Some(Throttle {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: of("throttled_time"),
            ..Throttle::default()
        })
        .into();
    }
    stat
}

fn memory(directory: &Path) -> MemoryStat {
    let values = table(directory, "memory.stat");
    let of = |key: &str| values.get(key).copied().unwrap_or(0);
    let entry = |kind: &str| {
        let file = |name: &str| number(directory, &format!("memory.{kind}{name}"));
        Some(MemoryEntry {
            limit: file("limit_in_bytes"),
            usage: file("usage_in_bytes"),
            max: file("max_usage_in_bytes"),
            failcnt: file("failcnt"),
            ..MemoryEntry::default()
        })
        .into()
    };
    MemoryStat {
        cache: of("cache"),
        rss: of("rss"),
        rss_huge: of("rss_huge"),
        mapped_file: of("mapped_file"),
        dirty: of("dirty"),
        writeback: of("writeback"),
        pg_pg_in: of("pgpgin"),
        pg_pg_out: of("pgpgout"),
        pg_fault: of("pgfault"),
        pg_maj_fault: of("pgmajfault"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        hierarchical_memory_limit: of("hierarchical_memory_limit"),
        hierarchical_swap_limit: of("hierarchical_memsw_limit"),
        total_cache: of("total_cache"),
        total_rss: of("total_rss"),
        total_rss_huge: of("total_rss_huge"),
        total_mapped_file: of("total_mapped_file"),
        total_dirty: of("total_dirty"),
        total_writeback: of("total_writeback"),
        total_pg_pg_in: of("total_pgpgin"),
        total_pg_pg_out: of("total_pgpgout"),
        total_pg_fault: of("total_pgfault"),
        total_pg_maj_fault: of("total_pgmajfault"),
        total_inactive_anon: of("total_inactive_anon"),
        total_active_anon: of("total_active_anon"),
        total_inactive_file: of("total_inactive_file"),
        total_active_file: of("total_active_file"),
        total_unevictable: of("total_unevictable"),
        usage: entry(""),
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        ..MemoryStat::default()
    }
}

fn blkio(directory: &Path) -> BlkIOStat {
    let read = |file: &str| {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.lines().filter_map(blkio_line).collect::<Vec<_>>()
    };
    let or = |first: Vec<BlkIOEntry>, file: &str| {
        if first.is_empty() { read(file) } else { first }
    };
    BlkIOStat {
        // Without a scheduler that counts, the throttling layer's counters are there.
        io_service_bytes_recursive: or(
            read("blkio.bfq.io_service_bytes_recursive"),
            "blkio.throttle.io_service_bytes_recursive",
        ),
        io_serviced_recursive: or(
            read("blkio.bfq.io_serviced_recursive"),
            "blkio.throttle.io_serviced_recursive",
        ),
        ..BlkIOStat::default()
    }
}

/// `MAJOR:MINOR OPERATION NUMBER`; the line `Total NUMBER` is left out.
pub(super) fn blkio_line(line: &str) -> Option<BlkIOEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    Some(BlkIOEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        op: words.next()?.to_owned(),
        value: words.next()?.parse().ok()?,
        ..BlkIOEntry::default()
    })
}

//! Counters of cgroup version 2 (kernel documentation, cgroup-v2.rst).

use std::fs;
use std::path::Path;

use containerd_shim::protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaEntry, RdmaStat,
};

use super::{huge_page_sizes, number, table};

/// Everything that can be read; what is not there stays zero.
pub fn collect(directory: &Path) -> Metrics {
    let cpu = table(directory, "cpu.stat");
    let cpu = |key: &str| cpu.get(key).copied().unwrap_or(0);
    let events = table(directory, "memory.events");
    let events = |key: &str| events.get(key).copied().unwrap_or(0);
    Metrics {
        pids: Some(PidsStat {
            current: number(directory, "pids.current"),
            // As containerd has it, also if there is none.
            limit: number(directory, "pids.max"),
            ..PidsStat::default()
        })
        .into(),
        cpu: Some(CPUStat {
            usage_usec: cpu("usage_usec"),
            user_usec: cpu("user_usec"),
            system_usec: cpu("system_usec"),
            nr_periods: cpu("nr_periods"),
            nr_throttled: cpu("nr_throttled"),
            throttled_usec: cpu("throttled_usec"),
            nr_bursts: cpu("nr_bursts"),
            burst_usec: cpu("burst_usec"),
            psi: pressure(directory, "cpu.pressure").into(),
            ..CPUStat::default()
        })
        .into(),
        memory: Some(memory(directory)).into(),
        memory_events: Some(MemoryEvents {
            low: events("low"),
            high: events("high"),
            max: events("max"),
            oom: events("oom"),
            oom_kill: events("oom_kill"),
            oom_group_kill: events("oom_group_kill"),
            ..MemoryEvents::default()
        })
        .into(),
        rdma: rdma(directory).into(),
        io: Some(io(directory)).into(),
        hugetlb: huge_page_sizes()
            .into_iter()
            .map(|size| HugeTlbStat {
                current: number(directory, &format!("hugetlb.{size}.current")),
                max: number(directory, &format!("hugetlb.{size}.max")),
                pagesize: size,
                ..HugeTlbStat::default()
            })
            .collect(),
        ..Metrics::default()
    }
}

fn memory(directory: &Path) -> MemoryStat {
    let values = table(directory, "memory.stat");
    let of = |key: &str| values.get(key).copied().unwrap_or(0);
    MemoryStat {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        workingset_refault: of("workingset_refault_anon") + of("workingset_refault_file"),
        workingset_activate: of("workingset_activate_anon") + of("workingset_activate_file"),
        workingset_nodereclaim: of("workingset_nodereclaim"),
        pgrefill: of("pgrefill"),
        pgscan: of("pgscan"),
        pgsteal: of("pgsteal"),
        pgactivate: of("pgactivate"),
        pgdeactivate: of("pgdeactivate"),
        pglazyfree: of("pglazyfree"),
        pglazyfreed: of("pglazyfreed"),
        thp_fault_alloc: of("thp_fault_alloc"),
        thp_collapse_alloc: of("thp_collapse_alloc"),
        usage: number(directory, "memory.current"),
        usage_limit: number(directory, "memory.max"),
        max_usage: number(directory, "memory.peak"),
        swap_usage: number(directory, "memory.swap.current"),
        swap_limit: number(directory, "memory.swap.max"),
        swap_max_usage: number(directory, "memory.swap.peak"),
        psi: pressure(directory, "memory.pressure").into(),
        ..MemoryStat::default()
    }
}

/// None where the controller is not there.
fn rdma(directory: &Path) -> Option<RdmaStat> {
    let entries = |file: &str| -> Option<Vec<RdmaEntry>> {
        let text = fs::read_to_string(directory.join(file)).ok()?;
        Some(text.lines().filter_map(rdma_line).collect())
    };
    Some(RdmaStat {
        current: entries("rdma.current")?,
        limit: entries("rdma.max")?,
        ..RdmaStat::default()
    })
}

/// `mlx4_0 hca_handle=2 hca_object=2000`; without a limit `max`.
pub(super) fn rdma_line(line: &str) -> Option<RdmaEntry> {
    let mut words = line.split_whitespace();
    let mut entry = RdmaEntry {
        device: words.next()?.to_owned(),
        ..RdmaEntry::default()
    };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let value = match value {
            "max" => u32::MAX,
            number => number.parse().ok()?,
        };
        match key {
            "hca_handle" => entry.hca_handles = value,
            "hca_object" => entry.hca_objects = value,
            _ => {}
        }
    }
    Some(entry)
}

fn io(directory: &Path) -> IOStat {
    let text = fs::read_to_string(directory.join("io.stat")).unwrap_or_default();
    IOStat {
        usage: text.lines().filter_map(io_line).collect(),
        psi: pressure(directory, "io.pressure").into(),
        ..IOStat::default()
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
pub(super) fn io_line(line: &str) -> Option<IOEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut entry = IOEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..IOEntry::default()
    };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let value = value.parse().unwrap_or(0);
        match key {
            "rbytes" => entry.rbytes = value,
            "wbytes" => entry.wbytes = value,
            "rios" => entry.rios = value,
            "wios" => entry.wios = value,
            _ => {}
        }
    }
    Some(entry)
}

/// Pressure stall information; None where the kernel has none.
fn pressure(directory: &Path, file: &str) -> Option<PSIStats> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    let line = |kind: &str| text.lines().find_map(|line| pressure_line(line, kind));
    Some(PSIStats {
        some: line("some").into(),
        full: line("full").into(),
        ..PSIStats::default()
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
pub(super) fn pressure_line(line: &str, kind: &str) -> Option<PSIData> {
    let mut data = PSIData::default();
    for (key, value) in line
        .strip_prefix(kind)?
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
    {
        match key {
            "avg10" => data.avg10 = value.parse().ok()?,
            "avg60" => data.avg60 = value.parse().ok()?,
            "avg300" => data.avg300 = value.parse().ok()?,
            "total" => data.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(data)
}

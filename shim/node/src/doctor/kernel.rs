//! What the kernel must have.

use std::fs;
use std::path::Path;

use super::Check;

/// All checks of the kernel.
pub fn checks() -> Vec<Check> {
    vec![
        version(),
        time_namespace(),
        freezer(),
        file_systems(),
        tun(),
        clock(),
    ]
}

fn version() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match parse_version(release) {
        Some(version) if version >= (6, 7) => Check::ok("kernel", release),
        Some(version) if version >= (5, 11) => Check::warn(
            "kernel",
            release,
            "pods move; memory rounds need 6.7 (PAGEMAP_SCAN), so big pods freeze longer",
        ),
        _ => Check::fail("kernel", release, "use a kernel of 5.11 or newer"),
    }
}

/// `(major, minor)` of a release such as `6.12.48-cloud-amd64`.
pub(super) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn time_namespace() -> Check {
    if Path::new("/proc/self/ns/time").exists() {
        Check::ok("time namespaces", "there")
    } else {
        Check::fail(
            "time namespaces",
            "missing",
            "use a kernel with CONFIG_TIME_NS: without it monotonic clocks jump",
        )
    }
}

fn freezer() -> Check {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Check::ok("cgroup freezer", "cgroup v2");
    }
    if Path::new("/sys/fs/cgroup/freezer").is_dir() {
        return Check::ok("cgroup freezer", "cgroup v1");
    }
    Check::fail(
        "cgroup freezer",
        "neither cgroup v2 nor the v1 controller \"freezer\" is mounted",
        "mount /sys/fs/cgroup",
    )
}

fn file_systems() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
        .lines()
        .any(|line| line.trim_end().ends_with("overlay"))
    {
        Check::ok("overlayfs", "there")
    } else {
        Check::warn(
            "overlayfs",
            "not loaded",
            "modprobe overlay: containerd's overlayfs snapshotter needs it",
        )
    }
}

fn tun() -> Check {
    let path = "/dev/net/tun";
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Check::ok("tun", path),
        Err(error) => Check::fail(
            "tun",
            format!("{path}: {error}"),
            "modprobe tun, and give the daemon the device: old connections are relayed through it",
        ),
    }
}

/// Certificates and timelines need a clock that is right.
fn clock() -> Check {
    // SAFETY: an all-zero `timex` is a valid value; `modes` 0 changes nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is a valid, writable structure for the duration of the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state == libc::TIME_ERROR || timex.status & libc::STA_UNSYNC != 0 {
        Check::warn(
            "clock",
            "not synchronised",
            "run a time service (chrony, systemd-timesyncd): certificates have dates, and \
             timelines of two nodes are compared",
        )
    } else {
        Check::ok("clock", "synchronised")
    }
}

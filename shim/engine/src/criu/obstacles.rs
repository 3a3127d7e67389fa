//! What CRIU cannot carry, found without touching the container.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use serde_json::Value;

use super::preload;
use crate::freezer::Freezer;
use crate::process::{self, Status, proc};
use crate::{EngineError, Target, spec};

/// Descriptors that CRIU has no image for: what `/proc/PID/fd` shows, and what to do.
const DESCRIPTORS: [(&str, &str); 5] = [
    (
        "anon_inode:[io_uring]",
        "uses io_uring; deny it with the seccomp profile RuntimeDefault (node then works without)",
    ),
    (
        "anon_inode:[perf_event]",
        "has a performance counter open; end the profiler",
    ),
    ("anon_inode:bpf-prog", "holds a BPF program"),
    ("anon_inode:kvm-vm", "runs a virtual machine"),
    ("anon_inode:[userfaultfd]", "handles its own page faults"),
];

/// All of a container's obstacles, each once.
pub(super) fn find(target: &Target, pid: i32) -> Result<Vec<String>, EngineError> {
    let mut found = BTreeSet::new();
    let name = &target.name;
    for problem in in_spec(&spec::read(&target.bundle)?) {
        found.insert(format!("container {name} {problem}"));
    }
    let protocols = proc(pid, "net/protocols");
    let protocols = fs::read_to_string(&protocols).map_err(EngineError::io("read", &protocols))?;
    if mptcp_sockets(&protocols) > 0 {
        found.insert(format!(
            "container {name} has MPTCP sockets; start it with net.mptcp.enabled=0 (pods of this \
             runtime are; Go programs then use TCP)"
        ));
    }
    found.extend(nothing_unread(name, pid).err());
    for process in Freezer::of_process(pid)?.processes()? {
        for problem in in_process(process, pid) {
            found.insert(format!("container {name}: process {process} {problem}"));
        }
    }
    Ok(found.into_iter().collect())
}

/// Namespaces that would not move with the container.
fn in_spec(spec: &Value) -> Vec<&'static str> {
    let mut found = Vec::new();
    if spec::namespace(spec, "network").is_none() {
        found.push("uses the host's network, whose addresses cannot move; set hostNetwork: false");
    }
    match spec::namespace(spec, "pid") {
        Some(None) => {}
        Some(Some(_)) => found.push(
            "shares one pid namespace with other containers; set shareProcessNamespace: false \
             (or, in a CRI pod config, namespace_options.pid = CONTAINER)",
        ),
        None => found.push("uses the host's pid namespace; set hostPID: false"),
    }
    if let Some(Some(_)) = spec::namespace(spec, "user") {
        found.push("joins a user namespace, which runc cannot restore into; set hostUsers: true");
    }
    found
}

/// What one process holds. Those that ended meanwhile have nothing.
fn in_process(pid: i32, init: i32) -> Vec<String> {
    let mut found = Vec::new();
    for target in process::descriptors(pid).unwrap_or_default() {
        if let Some((_, problem)) = DESCRIPTORS.iter().find(|(known, _)| *known == target) {
            found.push((*problem).to_owned());
        }
    }
    if let Ok(status) = Status::read(pid)
        && status.tracer != 0
    {
        found.push(format!(
            "is traced by process {}; detach the debugger",
            status.tracer
        ));
    }
    if !preload::is_set()
        && let (Ok(own), Ok(status)) = (Status::read(own_pid()), Status::read(pid))
        && !may_read_limits(&own, &status)
    {
        found.push(format!(
            "runs as user {}, whose resource limits CRIU cannot read on this node; give containerd \
             CAP_SYS_RESOURCE",
            status.uids.first().copied().unwrap_or_default()
        ));
    }
    for kind in ["pid", "user"] {
        if let (Ok(own), Ok(first)) = (
            process::namespace(pid, kind),
            process::namespace(init, kind),
        ) && own != first
        {
            found.push(format!(
                "made a {kind} namespace of its own, which CRIU cannot dump"
            ));
        }
    }
    found
}

/// Refuses a container with unread bytes on its standard input.
pub(super) fn nothing_unread(container: &str, pid: i32) -> Result<(), String> {
    match unread_input(pid) {
        0 => Ok(()),
        unread => Err(format!(
            "container {container} has {unread} bytes on its standard input that it has not read, and \
             that would be lost; try again when it has read them"
        )),
    }
}

/// Bytes that wait on the standard input of a container's first process. In a pipe from the shim they are
/// outside of CRIU's image, as those in a terminal are. Reads nothing.
fn unread_input(pid: i32) -> u32 {
    let Ok(file) = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(proc(pid, "fd/0"))
    else {
        return 0;
    };
    let is_stream = file.metadata().is_ok_and(|meta| {
        let kind = meta.file_type();
        kind.is_fifo() || kind.is_char_device()
    });
    if !is_stream {
        return 0;
    }
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as `file` lives; FIONREAD writes one int.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if result < 0 { 0 } else { count.unsigned_abs() }
}

/// Whether prlimit(2) lets a process with the rights of `own` read the limits of the process `other`.
fn may_read_limits(own: &Status, other: &Status) -> bool {
    /// Number of CAP_SYS_RESOURCE.
    const SYS_RESOURCE: u64 = 24;
    // The first three: real, effective and saved.
    let same = |own: &[u32], other: &[u32]| other.iter().take(3).all(|id| own.first() == Some(id));
    own.capabilities.effective & (1 << SYS_RESOURCE) != 0
        || same(&own.uids, &other.uids) && same(&own.gids, &other.gids)
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Sockets in use, from `/proc/PID/net/protocols`.
fn mptcp_sockets(protocols: &str) -> u64 {
    protocols
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|fields| matches!(fields.first(), Some(&("MPTCP" | "MPTCPv6"))))
        .filter_map(|fields| fields.get(2)?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests;

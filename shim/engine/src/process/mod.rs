//! What `/proc` says of a process; proc_pid_status(5) and proc_pid_syscall(5).

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The lines of `/proc/PID/status` that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// State letter: `T` is stopped by a signal, `Z` a zombie.
    pub state: char,
    /// Pid in the process's own, innermost pid namespace.
    pub inner_pid: i32,
    /// The process that traces it; 0: none.
    pub tracer: i32,
    /// Real, effective, saved and file system user id.
    pub uids: Vec<u32>,
    /// The same for the group.
    pub gids: Vec<u32>,
    /// Capability sets, a bit per capability.
    pub capabilities: Capabilities,
    /// Whether execve can no longer grant rights.
    pub no_new_privileges: bool,
    /// 0: no seccomp, 1: strict, 2: filter.
    pub seccomp: u32,
}

/// The five capability sets of a process, capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Inheritable.
    pub inheritable: u64,
    /// Permitted.
    pub permitted: u64,
    /// Effective.
    pub effective: u64,
    /// Bounding.
    pub bounding: u64,
    /// Ambient.
    pub ambient: u64,
}

impl Status {
    /// Reads the status of a process.
    pub fn read(pid: i32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(proc(pid, "status"))?))
    }

    /// Takes the known lines; what is missing keeps its default.
    pub fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let set = || u64::from_str_radix(value, 16).unwrap_or(u64::MAX);
            match name {
                "State" => status.state = value.chars().next().unwrap_or_default(),
                "NSpid" => status.inner_pid = numbers(value).last().copied().unwrap_or(0),
                "TracerPid" => status.tracer = value.parse().unwrap_or(0),
                "Uid" => status.uids = numbers(value),
                "Gid" => status.gids = numbers(value),
                "CapInh" => status.capabilities.inheritable = set(),
                "CapPrm" => status.capabilities.permitted = set(),
                "CapEff" => status.capabilities.effective = set(),
                "CapBnd" => status.capabilities.bounding = set(),
                "CapAmb" => status.capabilities.ambient = set(),
                "NoNewPrivs" => status.no_new_privileges = value == "1",
                "Seccomp" => status.seccomp = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        status
    }
}

/// `/proc/PID/NAME`.
pub(crate) fn proc(pid: i32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

/// What a process's descriptors point to, such as `socket:[1]` or `/tmp/x`. Descriptors that are
/// closed meanwhile are left out.
pub fn descriptors(pid: i32) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc(pid, "fd"))? {
        if let Ok(target) = fs::read_link(entry?.path()) {
            found.push(target.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// Identity of one of a process's namespaces, such as `pid:[4026531836]`.
pub fn namespace(pid: i32, kind: &str) -> io::Result<String> {
    let link = fs::read_link(proc(pid, "ns").join(kind))?;
    Ok(link.to_string_lossy().into_owned())
}

/// Whether the process is stopped by a signal (SIGSTOP, SIGTSTP, ...). The freezer of cgroup v1
/// hides that in the state, but not in where the process sleeps. A process that cannot be read
/// counts as not.
pub fn is_stopped(pid: i32) -> bool {
    Status::read(pid).is_ok_and(|status| status.state == 'T')
        || fs::read_to_string(proc(pid, "wchan")).is_ok_and(|wait| wait == "do_signal_stop")
}

/// Whether a thread of the process waits inside vfork (or a clone that behaves like it) for its
/// child. A process that cannot be read counts as not.
pub fn in_vfork(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(proc(pid, "task")) else {
        return false;
    };
    threads.flatten().any(|thread| {
        fs::read_to_string(thread.path().join("syscall"))
            .is_ok_and(|line| vfork_call(&line, |address| read_word(pid, address)))
    })
}

/// Whether a line of `/proc/PID/syscall` is a call that waits for the child. `read` fetches the
/// eight bytes at an address: clone3(2) has its flags in memory.
fn vfork_call(line: &str, read: impl Fn(u64) -> Option<u64>) -> bool {
    let mut words = line.split_ascii_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else {
        return false;
    };
    let Some(first) = words.next().and_then(hexadecimal) else {
        return false;
    };
    let waits = |flags: u64| flags & libc::CLONE_VFORK as u64 != 0;
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_vfork {
        return true;
    }
    if number == libc::SYS_clone {
        return waits(first);
    }
    number == libc::SYS_clone3 && read(first).is_some_and(waits)
}

fn read_word(pid: i32, address: u64) -> Option<u64> {
    let memory = fs::File::open(proc(pid, "mem")).ok()?;
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, address).ok()?;
    Some(u64::from_ne_bytes(word))
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

fn numbers<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;

//! Which processes of a container are under DMTCP, seen from outside: each holds its connection
//! to the coordinator at a descriptor of DMTCP's own (`protectedfds.h`).

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::TcpNoDelay};

use super::{fit, layout};
use crate::EngineError;
use crate::freezer::Freezer;
use crate::process::{Status, proc};

/// The descriptor with the connection to the coordinator.
const CONNECTION: i32 = 821;

/// What a process of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Our init, or its holder.
    Init,
    /// DMTCP's programs on the way to become the container's.
    Launcher,
    /// Under DMTCP.
    Carried,
    /// Not under DMTCP.
    Other,
    /// Ended, or ends.
    Gone,
}

/// What a process is.
pub(super) fn kind(pid: i32) -> Kind {
    let Ok(program) = fs::read_link(proc(pid, "exe")) else {
        return Kind::Gone;
    };
    if program == Path::new(layout::INIT) {
        return Kind::Init;
    }
    // A restored process may go by the name of `mtcp_restart`, which it was.
    if program.starts_with(layout::DMTCP) && !program.ends_with("mtcp_restart") {
        return Kind::Launcher;
    }
    match fs::read_link(proc(pid, "fd").join(CONNECTION.to_string())) {
        Ok(target) if target.to_string_lossy().starts_with("socket:") => Kind::Carried,
        _ if Status::read(pid).is_ok_and(|status| status.state != 'Z') => Kind::Other,
        _ => Kind::Gone,
    }
}

/// The processes of each kind that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Under DMTCP.
    pub carried: Vec<i32>,
    /// Not under DMTCP, and not ours.
    pub other: Vec<i32>,
    /// DMTCP's programs.
    pub launchers: usize,
}

impl Census {
    /// Of the container with this first process. Those that were started from outside (exec)
    /// are not looked at: they are not part of an image.
    pub(super) fn of(init: i32) -> Result<Self, EngineError> {
        let pids = Freezer::of_process(init)?.processes()?;
        let mut census = Self::default();
        for pid in descendants(init, &pids) {
            match kind(pid) {
                Kind::Carried => census.carried.push(pid),
                Kind::Other => census.other.push(pid),
                Kind::Launcher => census.launchers += 1,
                Kind::Init | Kind::Gone => {}
            }
        }
        Ok(census)
    }
}

/// Those of `pids` that descend from `init`.
fn descendants(init: i32, pids: &[i32]) -> Vec<i32> {
    let parents: BTreeMap<i32, i32> = pids
        .iter()
        .filter_map(|pid| Some((*pid, parent(*pid)?)))
        .collect();
    let descends = |pid: &i32| {
        let mut at = *pid;
        // Bounded, as the tree may change while it is read.
        for _ in 0..pids.len() {
            match parents.get(&at) {
                Some(parent) if *parent == init => return true,
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    pids.iter().copied().filter(descends).collect()
}

/// The fourth field of `/proc/PID/stat`; the second, in parentheses, may contain anything.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(proc(pid, "stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The name of a process, for messages.
pub(super) fn name(pid: i32) -> String {
    fs::read_to_string(proc(pid, "comm"))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// What is wrong with a carried process for a checkpoint. Restored processes get what the spec
/// gives; one that gave something up meanwhile would have it again.
pub(super) fn obstacle(pid: i32, init: &Status) -> Option<String> {
    let status = Status::read(pid).ok()?;
    if status.state == 'Z' {
        return None;
    }
    // Started by a script: what the image says of the container's program does not tell.
    let name = name(pid);
    if let Some(reason) = fit::known(&name) {
        return Some(format!(
            "process {pid} ({name}) would not survive a checkpoint by DMTCP: {reason}; give the pod \
             another engine (mycedrive.io/engine)"
        ));
    }
    let problem = if status.uids != init.uids || status.gids != init.gids {
        "changed its user after its start, which DMTCP does not restore; set runAsUser in the pod"
    } else if status.capabilities.permitted != init.capabilities.permitted
        || status.capabilities.effective != init.capabilities.effective
    {
        "gave capabilities up after its start, which DMTCP does not restore; drop them in the pod"
    } else if status.seccomp != init.seccomp || status.no_new_privileges != init.no_new_privileges {
        "confined itself after its start (seccomp, no_new_privs), which DMTCP does not restore"
    } else if status.tracer != 0 {
        "is traced; detach the debugger"
    } else {
        return None;
    };
    Some(format!("process {pid} {problem}"))
}

/// Sends what a process tells the coordinator at once: else each answer waits 40 ms for another
/// one to go with it.
pub(super) fn no_delay(pid: i32) {
    if let Err(error) = connection(pid).and_then(|socket| setsockopt(&socket, TcpNoDelay, &true)) {
        tracing::debug!(pid, %error, "a checkpoint will take longer");
    }
}

/// A copy of the process's connection to the coordinator, pidfd_getfd(2).
fn connection(pid: i32) -> nix::Result<OwnedFd> {
    let own = |descriptor: libc::c_long| {
        // SAFETY: a new descriptor that nobody else has.
        unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
    };
    // SAFETY: plain integers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let process = own(Errno::result(process)?);
    // SAFETY: plain integers.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), CONNECTION, 0) };
    Ok(own(Errno::result(copy)?))
}

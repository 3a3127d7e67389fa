//! The network namespace that CRIU works in: the pod's.
//!
//! A container of a pod is in a namespace that belongs to the sandbox and that moves by other means
//! (`shim/connection`). CRIU leaves out of an image what it shares with the container itself. Of a
//! namespace that it does not share it reads the table of tracked connections, twice, of the whole
//! node, even if it was told that others restore it (`dump_nf_ct` in CRIU 4.2): 2 times 13 ms with the
//! kernel's usual table of 262144 buckets.
//!
//! So an image that was made for a migration is to be restored inside the new pod's namespace;
//! [`of_pod`] and [`enter`] are how both come there, [`other`] sees whether they did.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::process::{self, proc};
use crate::{EngineError, Purpose, spec};

/// The pod's network namespace, if an image for this purpose is made and restored in it. One that the
/// OCI runtime makes for the container alone is part of the image.
pub(super) fn of_pod(spec: &Value, purpose: Purpose) -> Result<Option<File>, EngineError> {
    let path = spec::namespace(spec, "network").flatten().map(Path::new);
    match path {
        Some(path) if purpose == Purpose::Migration => File::open(path)
            .map(Some)
            .map_err(EngineError::io("open", path)),
        _ => Ok(None),
    }
}

/// Whether a process has made another network namespace: CRIU dumps those beside that of the first
/// process, not beside its own.
pub(super) fn has_others(init: i32, processes: &[i32]) -> bool {
    let Ok(first) = process::namespace(init, "net") else {
        return false;
    };
    processes
        .iter()
        .any(|pid| process::namespace(*pid, "net").is_ok_and(|own| own != first))
}

/// Lets `command` work in this namespace.
pub(super) fn enter(command: &mut Command, namespace: Option<File>) {
    let Some(namespace) = namespace else {
        return;
    };
    // SAFETY: between fork and exec only setns(2) is called, which allocates nothing.
    unsafe {
        command
            .pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
    }
}

/// What is wrong if the restored process `pid` is in another network namespace than the spec says.
pub(super) fn other(spec: &Value, pid: i32) -> Option<String> {
    let path = spec::namespace(spec, "network").flatten()?;
    let at = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    match (at(Path::new(path)), at(&proc(pid, "ns/net"))) {
        (Ok(wanted), Ok(found)) if wanted == found => None,
        _ => Some(format!("a network namespace other than {path}")),
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;

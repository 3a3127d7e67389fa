//! System V IPC, and POSIX message queues.
//!
//! The containers of a pod share the IPC namespace of its sandbox. CRIU dumps the namespace's
//! objects (shared memory, semaphores, message queues) with each container, and would give each
//! restored container a namespace of its own with copies of them: programs of two containers would
//! go on with different ones. So a restored container joins the namespace of the new sandbox
//! (`join-ns`), in which CRIU then makes the objects. The first container brings them; for the
//! others, which are restored after it, the lists in their images are emptied.
//!
//! CRIU attaches shared memory only from the list of the same image. So one container can have some
//! attached, which comes first, and not two.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, statfs};
use serde_json::Value;

use crate::freezer::Freezer;
use crate::process::proc;
use crate::{EngineError, EngineKind, Member, Target, spec};

/// Says in an image directory that a process has System V shared memory attached.
const ATTACHED: &str = "mycedrive-ipc-attached";
/// The lists of objects in an image directory: what their names begin with.
const LISTS: [&str; 3] = ["ipcns-shm-", "ipcns-sem-", "ipcns-msg-"];
/// Bytes of a list without an entry: two magic numbers.
const EMPTY: u64 = 8;

/// What of a container cannot move, each with what to do. Changes nothing.
pub(super) fn obstacles(target: &Target, pod: &[Member]) -> Result<Vec<String>, EngineError> {
    let mut found = Vec::new();
    let Some(own) = pod.iter().find(|member| member.name == target.name) else {
        return Ok(found);
    };
    if spec::namespace(&spec::read(&target.bundle)?, "ipc").is_none() {
        found.push(format!(
            "container {} uses the node's System V IPC, which cannot move; set hostIPC: false",
            own.name
        ));
    }
    let queues = message_queues(&proc(own.pid, "root/dev/mqueue"));
    if let Some(first) = queues.first() {
        found.push(format!(
            "container {} sees {} POSIX message queue(s), such as /{first}, which CRIU cannot \
             dump; remove them (mq_unlink)",
            own.name,
            queues.len()
        ));
    }
    found.extend(both_attached(own, pod)?.map(|error| error.to_string()));
    Ok(found)
}

/// Notes in an image directory what a restore must know. The containers stand still.
pub(super) fn save(target: &Target, pod: &[Member], image_dir: &Path) -> Result<(), EngineError> {
    let Some(own) = pod.iter().find(|member| member.name == target.name) else {
        return Ok(());
    };
    if let Some(error) = both_attached(own, pod)? {
        return Err(error);
    }
    if attaches(own)? {
        spec::replace(&image_dir.join(ATTACHED), b"")?;
    }
    Ok(())
}

fn both_attached(own: &Member, pod: &[Member]) -> Result<Option<EngineError>, EngineError> {
    if !attaches(own)? {
        return Ok(None);
    }
    // Each two once.
    for other in pod.iter().filter(|member| member.name > own.name) {
        if other.engine == EngineKind::Criu && attaches(other)? {
            return Ok(Some(EngineError::SharedMemory {
                container: own.name.clone(),
                other: other.name.clone(),
            }));
        }
    }
    Ok(None)
}

/// Whether a process of a container has System V shared memory attached.
fn attaches(member: &Member) -> Result<bool, EngineError> {
    let processes = Freezer::of_process(member.pid)?.processes()?;
    Ok(processes.into_iter().any(|pid| {
        // One that has ended has none.
        fs::read_to_string(proc(pid, "maps")).is_ok_and(|maps| maps_segment(&maps))
    }))
}

/// A line such as `7f..-7f.. rw-s 00000000 00:01 32768    /SYSV00001234 (deleted)`.
fn maps_segment(maps: &str) -> bool {
    maps.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        let shared = words.nth(1).is_some_and(|rights| rights.ends_with('s'));
        // Behind offset, device and number.
        let is_segment = words.nth(3).is_some_and(|name| name.starts_with("/SYSV"));
        shared && is_segment && words.next() == Some("(deleted)")
    })
}

/// Names of the queues in a mounted file system of them.
fn message_queues(mount: &Path) -> Vec<String> {
    /// `MQUEUE_MAGIC` of ipc/mqueue.c.
    const MQUEUE: FsType = FsType(0x1980_0202);
    let is_one = statfs(mount).is_ok_and(|found| found.filesystem_type() == MQUEUE);
    let Some(entries) = is_one.then(|| fs::read_dir(mount).ok()).flatten() else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Which of these containers, given by their image directories, is restored before the others: the
/// one that brings the objects. None if there are no objects, or only one container.
pub fn first(images: &[(String, PathBuf)]) -> Result<Option<usize>, EngineError> {
    if images.len() < 2 {
        return Ok(None);
    }
    let mut with_objects = None;
    for (index, (_, image)) in images.iter().enumerate() {
        if image.join(ATTACHED).exists() {
            return Ok(Some(index));
        }
        if with_objects.is_none() && lists(image)?.iter().any(|(_, length)| *length > EMPTY) {
            with_objects = Some(index);
        }
    }
    Ok(with_objects)
}

/// Empties the lists of an image whose objects another one brings.
pub(super) fn empty(image_dir: &Path) -> Result<(), EngineError> {
    for (path, length) in lists(image_dir)? {
        if length > EMPTY {
            OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .and_then(|file: File| file.set_len(EMPTY))
                .map_err(EngineError::io("empty", &path))?;
        }
    }
    Ok(())
}

/// Removes all System V objects of a namespace: what a restore that failed has left there.
pub(super) fn clear(namespace: &Path) -> Result<(), EngineError> {
    let failed = |source| EngineError::io("clear", namespace)(source);
    let file = File::open(namespace).map_err(failed)?;
    let thread = thread::Builder::new()
        .name("ipc".to_owned())
        .stack_size(128 << 10)
        // A thread that has entered a namespace is not used again.
        .spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWIPC)?;
            remove_all()
        })
        .map_err(failed)?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a helper thread ended")))
        .map_err(failed)
}

/// Removes the objects in the namespace of the calling thread.
fn remove_all() -> io::Result<()> {
    for kind in ["shm", "sem", "msg"] {
        for id in numbers(&fs::read_to_string(format!("/proc/sysvipc/{kind}"))?) {
            // SAFETY: IPC_RMID takes no further argument.
            let result = unsafe {
                match kind {
                    "shm" => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
                    "sem" => libc::semctl(id, 0, libc::IPC_RMID),
                    _ => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
                }
            };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// The second word of each line but the first, which has the names of the columns; sysvipc(7).
fn numbers(table: &str) -> Vec<i32> {
    let number = |line: &str| line.split_ascii_whitespace().nth(1)?.parse().ok();
    table.lines().skip(1).filter_map(number).collect()
}

/// The lists of objects in an image directory, and their lengths.
fn lists(image_dir: &Path) -> Result<Vec<(PathBuf, u64)>, EngineError> {
    let entries = match fs::read_dir(image_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(EngineError::io("read", image_dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(EngineError::io("read", image_dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if LISTS.iter().any(|list| name.starts_with(list)) {
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).map_err(EngineError::io("look at", &path))?;
            found.push((path, meta.len()));
        }
    }
    Ok(found)
}

/// The namespace that a spec names: that of the pod's sandbox.
pub(super) fn namespace(spec: &Value) -> Option<&Path> {
    spec::namespace(spec, "ipc").flatten().map(Path::new)
}

#[cfg(test)]
mod tests;

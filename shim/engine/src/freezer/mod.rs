//! Freezing control groups, with nothing but the kernel's own files.
//!
//! Version 1 (`freezer.state`: write `FROZEN`, read until it says so) and version 2
//! (`cgroup.freeze`, then `frozen 1` in `cgroup.events`); kernel documentation
//! `admin-guide/cgroup-v1/freezer-subsystem.rst` and `admin-guide/cgroup-v2.rst`. Where both
//! hierarchies are mounted the v1 freezer counts, as it does for runc.

pub(crate) mod locate;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{EngineError, process};

/// How long a group may take. Frozen is normally reached within a millisecond.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks.
const POLL: Duration = Duration::from_micros(200);
/// A v1 group that stays `FREEZING` this long is thawed and frozen again: a process that was
/// just being moved or forked may have been missed.
const RETRY: Duration = Duration::from_millis(100);
/// How often a group is frozen again to catch its processes outside vfork.
const VFORK_TRIES: u32 = 50;
/// How long it runs in between.
const VFORK_PAUSE: Duration = Duration::from_millis(2);

/// Which kind of control group hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The freezer controller's own hierarchy.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A control group that can be frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freezer {
    version: Version,
    directory: PathBuf,
}

impl Freezer {
    /// The group of a process, which should be a container's first one.
    pub fn of_process(pid: i32) -> Result<Self, EngineError> {
        let groups = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let groups = fs::read_to_string(&groups).map_err(EngineError::io("read", &groups))?;
        let mounts = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(mounts).map_err(EngineError::io("read", mounts))?;
        locate::freezer(&groups, &mounts).map_err(|problem| EngineError::NoCgroup { pid, problem })
    }

    /// The group that has this directory; `None` when it is gone.
    pub fn in_directory(directory: &Path) -> Option<Self> {
        let version = if directory.join("freezer.state").exists() {
            Version::V1
        } else if directory.join("cgroup.freeze").exists() {
            Version::V2
        } else {
            return None;
        };
        Some(Self {
            version,
            directory: directory.to_owned(),
        })
    }

    /// The group's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All processes in the group and in groups below it. Without order.
    pub fn processes(&self) -> Result<Vec<i32>, EngineError> {
        let mut found = Vec::new();
        collect(&self.directory, &mut found)
            .map_err(EngineError::io("list the processes of", &self.directory))?;
        Ok(found)
    }

    /// Whether every process in the group is frozen.
    pub fn is_frozen(&self) -> Result<bool, EngineError> {
        let (file, frozen) = match self.version {
            Version::V1 => ("freezer.state", "FROZEN"),
            Version::V2 => ("cgroup.events", "frozen 1"),
        };
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).map_err(EngineError::io("read", &path))?;
        Ok(text.lines().any(|line| line == frozen))
    }

    /// Sends SIGKILL to every process, frozen or not. A frozen one ends without having run
    /// another instruction (v1: once it is thawed).
    pub fn kill_all(&self) -> Result<(), EngineError> {
        for pid in self.processes()? {
            signal(pid, Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// Asks the kernel; does not wait.
    fn request(&self, frozen: bool) -> Result<(), EngineError> {
        let (file, word) = match (self.version, frozen) {
            (Version::V1, true) => ("freezer.state", "FROZEN"),
            (Version::V1, false) => ("freezer.state", "THAWED"),
            (Version::V2, true) => ("cgroup.freeze", "1"),
            (Version::V2, false) => ("cgroup.freeze", "0"),
        };
        let path = self.directory.join(file);
        fs::write(&path, word).map_err(EngineError::io("write", &path))
    }

    fn wait(&self) -> Result<(), EngineError> {
        let begin = Instant::now();
        let mut again = begin + RETRY;
        while !self.is_frozen()? {
            let now = Instant::now();
            if now.duration_since(begin) > LIMIT {
                return Err(EngineError::FreezeTimeout {
                    cgroup: self.directory.clone(),
                    wanted: "frozen",
                    waited: LIMIT,
                });
            }
            if self.version == Version::V1 && now > again {
                self.request(false)?;
                self.request(true)?;
                again = now + RETRY;
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// A process of the frozen group that waits inside vfork for its child.
    fn in_vfork(&self) -> Result<Option<i32>, EngineError> {
        Ok(self
            .processes()?
            .into_iter()
            .find(|pid| process::in_vfork(*pid)))
    }
}

/// Freezes all groups at one moment: every one is asked before the first is waited for. On an
/// error none stays frozen. No process is inside vfork afterwards. Blocks for milliseconds.
pub fn freeze_all(freezers: &[Freezer]) -> Result<(), EngineError> {
    let result = freeze_outside_vfork(freezers);
    if result.is_err() {
        for freezer in freezers {
            if let Err(error) = freezer.request(false) {
                tracing::warn!(%error, "a group could not be thawed");
            }
        }
    }
    result
}

fn freeze_outside_vfork(freezers: &[Freezer]) -> Result<(), EngineError> {
    let mut tries = 0;
    loop {
        for freezer in freezers {
            freezer.request(true)?;
        }
        let mut vfork = None;
        for freezer in freezers {
            freezer.wait()?;
        }
        for freezer in freezers {
            vfork = vfork.or(freezer.in_vfork()?);
        }
        let Some(pid) = vfork else {
            return Ok(());
        };
        tries += 1;
        if tries >= VFORK_TRIES {
            return Err(EngineError::Vfork { pid, tries });
        }
        for freezer in freezers {
            freezer.request(false)?;
        }
        sleep(VFORK_PAUSE);
    }
}

/// Thaws all groups. Goes on after an error and returns the first. A group that is gone counts
/// as thawed.
pub fn thaw_all(freezers: &[Freezer]) -> Result<(), EngineError> {
    let mut result = Ok(());
    for freezer in freezers {
        if !freezer.directory.exists() {
            continue;
        }
        let thawed = freezer.request(false);
        if result.is_ok() {
            result = thawed;
        }
    }
    result
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) -> Result<(), EngineError> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(EngineError::Io {
            action: "signal",
            path: PathBuf::from(format!("/proc/{pid}")),
            source: errno.into(),
        }),
    }
}

fn collect(directory: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        // A threaded group: its processes are listed by the group above.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => return Err(error),
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match collect(&entry.path(), found) {
                // Removed while it was looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

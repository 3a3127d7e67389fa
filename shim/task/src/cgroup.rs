//! The cgroup of a process, version 1 or 2.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Directories of one cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroup {
    /// One directory per controller.
    V1(BTreeMap<String, PathBuf>),
    /// One directory for all.
    V2(PathBuf),
}

impl Cgroup {
    /// The cgroup that `pid` is in.
    pub fn of(pid: i32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let table = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        Self::parse(&table, Path::new(ROOT), unified)
            .ok_or_else(|| Error::decode(path.display().to_string(), "no cgroup in it"))
    }

    /// Parses `/proc/PID/cgroup`: lines of `ID:CONTROLLERS:PATH`, see cgroups(7).
    fn parse(table: &str, root: &Path, unified: bool) -> Option<Self> {
        let mut controllers = BTreeMap::new();
        for line in table.lines() {
            let mut fields = line.splitn(3, ':');
            let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let path = path.trim_start_matches('/');
            if unified {
                if names.is_empty() {
                    return Some(Self::V2(root.join(path)));
                }
                continue;
            }
            if names.is_empty() {
                continue;
            }
            let mount = names.strip_prefix("name=").unwrap_or(names);
            for name in names.split(',') {
                let name = name.strip_prefix("name=").unwrap_or(name);
                // Controllers that are mounted together have links of their single names, but
                // the link may be missing.
                let alone = root.join(name);
                let base = if alone.exists() {
                    alone
                } else {
                    root.join(mount)
                };
                controllers.insert(name.to_owned(), base.join(path));
            }
        }
        (!controllers.is_empty()).then_some(Self::V1(controllers))
    }

    /// The directory of a controller.
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::V1(controllers) => controllers.get(controller).map(PathBuf::as_path),
            Self::V2(directory) => Some(directory),
        }
    }

    /// Every process in the cgroup and below.
    pub fn pids(&self) -> Vec<u32> {
        let directory = ["devices", "freezer", "pids", "memory", "systemd"]
            .iter()
            .find_map(|controller| self.directory(controller));
        let mut pids = Vec::new();
        if let Some(directory) = directory {
            collect(directory, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Moves a process into the cgroup `path` below the root, making it when needed.
    pub fn join(path: &str, pid: u32) -> Result<()> {
        let path = path.trim_start_matches('/');
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let bases: Vec<PathBuf> = if unified {
            vec![PathBuf::from(ROOT)]
        } else {
            fs::read_dir(ROOT)
                .map_err(Error::path("read", Path::new(ROOT)))?
                .flatten()
                .map(|entry| entry.path())
                .filter(|base| base.join("cgroup.procs").exists())
                .collect()
        };
        for base in bases {
            let directory = base.join(path);
            fs::create_dir_all(&directory).map_err(Error::path("create", &directory))?;
            if base.ends_with("cpuset") {
                inherit_cpuset(&base, path);
            }
            let file = directory.join("cgroup.procs");
            fs::write(&file, pid.to_string()).map_err(Error::path("write", &file))?;
        }
        Ok(())
    }
}

/// A new v1 cpuset has no CPUs; it takes no process until it has its parent's.
fn inherit_cpuset(base: &Path, path: &str) {
    let mut directory = base.to_owned();
    for part in Path::new(path).components() {
        let child = directory.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let empty =
                fs::read_to_string(child.join(file)).is_ok_and(|text| text.trim().is_empty());
            if empty && let Ok(value) = fs::read_to_string(directory.join(file)) {
                let _ = fs::write(child.join(file), value.trim());
            }
        }
        directory = child;
    }
}

fn collect(directory: &Path, pids: &mut Vec<u32>) {
    if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;

//! Control groups of a testbed: `mycedrive-testbed/NAME/NODE` in every hierarchy.
//!
//! Whatever a node starts stays below its groups, whichever namespaces it makes, so they are also how a
//! testbed's processes are found and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const BASE: &str = "mycedrive-testbed";
const KILL_TIME: Duration = Duration::from_secs(10);

/// A mounted cgroup hierarchy of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    /// Where the machine has it mounted.
    pub mount: PathBuf,
    /// Version 2?
    pub unified: bool,
    /// Mount options that name a version 1 hierarchy, such as `cpu,cpuacct` or `none,name=systemd`.
    pub options: String,
}

/// All hierarchies that are mounted here.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let mut found: Vec<Hierarchy> = text.lines().filter_map(parse_mount).collect();
    found.dedup_by(|a, b| a.options == b.options && a.unified == b.unified);
    Ok(found)
}

/// One line of mountinfo, see proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mount = PathBuf::from(left.split(' ').nth(4)?);
    let mut right = right.split(' ');
    let unified = match right.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let words: Vec<&str> = right
        .nth(1)?
        .split(',')
        .filter(|word| {
            !matches!(*word, "rw" | "ro" | "xattr" | "clone_children" | "noprefix")
                && !word.starts_with("release_agent=")
        })
        .collect();
    let options = match words.as_slice() {
        _ if unified => String::new(),
        [name] if name.starts_with("name=") => format!("none,{name}"),
        words => words.join(","),
    };
    Some(Hierarchy {
        mount,
        unified,
        options,
    })
}

/// Makes a node's group in every hierarchy; answers with their directories, in the same order.
pub(crate) fn create(hierarchies: &[Hierarchy], testbed: &str, node: &str) -> Result<Vec<PathBuf>> {
    hierarchies
        .iter()
        .map(|hierarchy| create_in(hierarchy, testbed, node))
        .collect()
}

fn create_in(hierarchy: &Hierarchy, testbed: &str, node: &str) -> Result<PathBuf> {
    let mut dir = hierarchy.mount.clone();
    for part in [BASE, testbed, node] {
        let parent = dir.clone();
        dir.push(part);
        if !dir.is_dir() {
            fs::create_dir(&dir)
                .or_else(ignore_existing)
                .map_err(Error::file("make", &dir))?;
        }
        if hierarchy.unified {
            delegate(&parent);
        } else {
            inherit_cpuset(&parent, &dir);
        }
    }
    Ok(dir)
}

fn ignore_existing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        Ok(())
    } else {
        Err(error)
    }
}

/// Version 2: lets children use the controllers that the group itself has, as far as that is allowed.
pub(crate) fn delegate(dir: &Path) {
    let controllers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        // Some cannot be delegated everywhere; a node works without them.
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Version 1: a new cpuset group has no CPUs and memory nodes and takes no process before it has.
fn inherit_cpuset(parent: &Path, child: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(child.join(file)).unwrap_or_default();
        if own.trim().is_empty()
            && let Ok(value) = fs::read_to_string(parent.join(file))
        {
            let _ = fs::write(child.join(file), value.trim());
        }
    }
}

/// Ends every process in the groups of a testbed, or of one of its nodes, and removes the groups.
pub(crate) fn destroy(testbed: &str, node: Option<&str>) -> Result<()> {
    let dirs: Vec<PathBuf> = hierarchies()?
        .iter()
        .map(|hierarchy| {
            let dir = hierarchy.mount.join(BASE).join(testbed);
            node.map_or(dir.clone(), |node| dir.join(node))
        })
        .filter(|dir| dir.is_dir())
        .collect();
    let until = Instant::now() + KILL_TIME;
    loop {
        let left: usize = dirs.iter().map(|dir| kill_below(dir)).sum();
        if left == 0 && dirs.iter().all(|dir| remove(dir)) {
            break;
        }
        if Instant::now() > until {
            return Err(Error::TimedOut {
                what: format!("the end of the processes of testbed {testbed}"),
                seconds: KILL_TIME.as_secs(),
                detail: format!(
                    "; {left} are left in {}",
                    dirs.first().map_or("", |d| d.to_str().unwrap_or(""))
                ),
            });
        }
        sleep(Duration::from_millis(20));
    }
    for dir in dirs {
        // Held by another testbed as long as it is not empty.
        let _ = dir.parent().map(fs::remove_dir);
        let _ = dir
            .parent()
            .and_then(Path::parent)
            .filter(|dir| dir.ends_with(BASE))
            .map(fs::remove_dir);
    }
    Ok(())
}

/// Thaws and kills; answers how many processes were there.
fn kill_below(dir: &Path) -> usize {
    // A frozen process of a version 1 freezer does not die before it is thawed.
    let _ = fs::write(dir.join("freezer.state"), "THAWED");
    let _ = fs::write(dir.join("cgroup.kill"), "1");
    let mut count = 0;
    for pid in fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
    {
        if let Ok(pid) = pid.parse::<i32>()
            && pid > 0
        {
            count += 1;
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    count
        + children(dir)
            .iter()
            .map(|child| kill_below(child))
            .sum::<usize>()
}

/// Removes a tree of empty groups; true if it is gone.
fn remove(dir: &Path) -> bool {
    let below = children(dir).iter().all(|child| remove(child));
    below && (fs::remove_dir(dir).is_ok() || !dir.exists())
}

fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

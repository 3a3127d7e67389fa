//! Mounts and unmounts a container's root file system.

mod idmap;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use containerd_shim::protos::types::mount::Mount as MountMessage;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use self::idmap::{IdMap, MappedLayers};
use crate::error::{Error, Result};

/// One mount of the root file system, as containerd describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// File system type, e.g. `overlay`, `bind`.
    pub kind: String,
    /// Source.
    pub source: String,
    /// Path below the root file system; usually empty.
    pub target: String,
    /// Options, flags and file system data mixed.
    pub options: Vec<String>,
}

impl Mount {
    /// The value of `key=` in the options.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options
            .iter()
            .find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }

    /// An overlay's lowerdirs, the topmost first.
    pub fn lowers(&self) -> Vec<String> {
        // A colon in a path is escaped (kernel: Documentation/filesystems/overlayfs.rst), which no
        // snapshotter needs.
        self.option("lowerdir")
            .filter(|all| !all.contains('\\'))
            .map(|all| all.split(':').map(str::to_owned).collect())
            .unwrap_or_default()
    }
}

impl From<&MountMessage> for Mount {
    fn from(message: &MountMessage) -> Self {
        Self {
            kind: message.type_.clone(),
            source: message.source.clone(),
            target: message.target.clone(),
            options: message.options.clone(),
        }
    }
}

/// Option words that are mount flags: (word, flag, set or clear).
const FLAGS: &[(&str, MsFlags, bool)] = &[
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("mand", MsFlags::MS_MANDLOCK, true),
    ("nomand", MsFlags::MS_MANDLOCK, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
];

const PROPAGATION: &[(&str, MsFlags)] = &[
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

/// The kernel copies one page of options.
const PAGE: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    flags: MsFlags,
    propagation: Vec<MsFlags>,
    data: Vec<String>,
}

fn parse(options: &[String]) -> Parsed {
    let mut parsed = Parsed {
        flags: MsFlags::empty(),
        propagation: Vec::new(),
        data: Vec::new(),
    };
    for option in options {
        let option = option.as_str();
        if let Some((_, flag, set)) = FLAGS.iter().find(|(word, _, _)| *word == option) {
            parsed.flags.set(*flag, *set);
        } else if let Some((_, flag)) = PROPAGATION.iter().find(|(word, _)| *word == option) {
            parsed.propagation.push(*flag);
        } else {
            match option {
                "bind" => parsed.flags |= MsFlags::MS_BIND,
                "rbind" => parsed.flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
                "remount" => parsed.flags |= MsFlags::MS_REMOUNT,
                "defaults" | "loop" => {}
                other => parsed.data.push(other.to_owned()),
            }
        }
    }
    parsed
}

/// Mounts everything in `mounts` at `rootfs`; on failure nothing stays mounted.
pub fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(rootfs).map_err(Error::path("create", rootfs))?;
    for one in mounts {
        let result = if one.options.iter().any(|option| option == "loop") {
            Err(Error::Unimplemented(format!(
                "root file system {}: loop mounts are not supported",
                one.source
            )))
        } else {
            let target = below(rootfs, &one.target);
            mount_one(one, &target).map_err(Error::io(format!(
                "mount {} from {} at {}",
                one.kind,
                one.source,
                target.display()
            )))
        };
        if let Err(error) = result {
            let _ = unmount_all(rootfs);
            return Err(error);
        }
    }
    Ok(())
}

fn below(rootfs: &Path, target: &str) -> PathBuf {
    let target = target.trim_start_matches('/');
    if target.is_empty() {
        rootfs.to_owned()
    } else {
        rootfs.join(target)
    }
}

fn mount_one(one: &Mount, target: &Path) -> Result<(), Errno> {
    let Parsed {
        flags,
        propagation,
        mut data,
    } = parse(&one.options);
    let map = IdMap::take(&mut data)?;
    let layers = match &map {
        Some(map) if one.kind == "overlay" => Some(MappedLayers::new(
            map,
            &common_directory(&data),
            target.with_file_name("mapped-layers"),
            &mut data,
        )?),
        _ => None,
    };
    let joined = data.join(",");
    if joined.len() < PAGE - 1 {
        mount_flags(one, target, flags, &joined)?;
    } else {
        mount_from(&common_directory(&data), one, target, flags, data)?;
    }
    match map {
        Some(map) if layers.is_none() => map.bind(target, target)?,
        _ => {}
    }
    for flag in propagation {
        mount(None::<&str>, target, None::<&str>, flag, None::<&str>)?;
    }
    Ok(())
}

fn mount_flags(one: &Mount, target: &Path, flags: MsFlags, data: &str) -> Result<(), Errno> {
    let data = (!data.is_empty()).then_some(data);
    mount(
        Some(one.source.as_str()),
        target,
        Some(one.kind.as_str()),
        flags,
        data,
    )?;
    // A bind mount takes its other flags only in a second step.
    let kept = MsFlags::MS_BIND | MsFlags::MS_REC;
    if flags.contains(MsFlags::MS_BIND) && !(flags - kept).is_empty() {
        mount(
            Some(one.source.as_str()),
            target,
            None::<&str>,
            flags | MsFlags::MS_REMOUNT,
            None::<&str>,
        )?;
    }
    Ok(())
}

/// The directory that holds all lower layers: snapshots/ of the snapshotter.
fn common_directory(data: &[String]) -> PathBuf {
    let lower = data
        .iter()
        .find_map(|option| option.strip_prefix("lowerdir="))
        .unwrap_or_default();
    let mut common: Option<PathBuf> = None;
    for layer in lower.split(':') {
        let layer = Path::new(layer);
        common = Some(match common {
            None => layer.parent().unwrap_or(layer).to_owned(),
            Some(mut common) => {
                while !layer.starts_with(&common) && common.pop() {}
                common
            }
        });
    }
    common
        .filter(|common| common.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// Options with many layers do not fit into a page: mount with paths relative to `base`, from
/// a thread that has a current directory of its own.
fn mount_from(
    base: &Path,
    one: &Mount,
    target: &Path,
    flags: MsFlags,
    data: Vec<String>,
) -> Result<(), Errno> {
    let prefix = format!("{}/", base.display());
    let data: Vec<String> = data
        .into_iter()
        .map(|option| match option.strip_prefix("lowerdir=") {
            Some(layers) => {
                let layers: Vec<&str> = layers
                    .split(':')
                    .map(|layer| layer.strip_prefix(&prefix).unwrap_or(layer))
                    .collect();
                format!("lowerdir={}", layers.join(":"))
            }
            None => option,
        })
        .collect();
    let data = data.join(",");
    thread::scope(|scope| {
        scope
            .spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
                nix::unistd::chdir(base)?;
                mount_flags(one, target, flags, &data)
            })
            .join()
            .unwrap_or(Err(Errno::EIO))
    })
}

/// Unmounts everything at `rootfs`. That nothing is mounted is not an error.
pub fn unmount_all(rootfs: &Path) -> Result<()> {
    const TRIES: u32 = 50;
    let mut busy = 0;
    loop {
        match umount2(rootfs, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or not there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if busy < TRIES => {
                busy += 1;
                unmount_below(rootfs);
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(Error::path("unmount", rootfs)(error)),
        }
    }
}

/// Unmounts what is mounted below `rootfs`, deepest first.
fn unmount_below(rootfs: &Path) {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    let mut points: Vec<&Path> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(Path::new)
        .filter(|point| point.starts_with(rootfs) && *point != rootfs)
        .collect();
    points.sort_unstable_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    for point in points {
        let _ = umount2(point, MntFlags::UMOUNT_NOFOLLOW);
    }
}

#[cfg(test)]
#[path = "rootfs_tests.rs"]
mod tests;

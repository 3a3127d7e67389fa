//! Mounting a stack, and who has it mounted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_call, umount2};
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::error::{Error, Result};
use crate::layout::{Found, Layout, Phase, State, make_dir, name_of};
use crate::room;

/// `redirect_dir`: directories of the base can be renamed, as everywhere else. `index` is off:
/// the check at init sees to it that the base has no hard links, the one thing that it is for.
/// `metacopy` is off: a file is in a layer whole or not at all.
const OPTIONS: &str = "redirect_dir=on,index=off,metacopy=off";

/// Mounts the stack of `volume` at `target`, with the restrictions (nosuid, nodev, noexec) that
/// the volume's own mount has.
pub fn mount(volume: &Path, target: &Path) -> Result<()> {
    let layout = Layout::of(volume);
    let state = match layout.load()? {
        Found::Stack(state) if state.phase == Phase::Stack => state,
        _ => {
            return Err(Error::state(
                volume,
                "it is no stack, so it cannot be mounted",
            ));
        }
    };
    // OverlayFS makes directories of its own when it mounts.
    room::with(&layout, || {
        make_dir(&layout.part("work"))?;
        overlay(&layout, state, target)
    })
}

fn overlay(layout: &Layout, state: State, target: &Path) -> Result<()> {
    let flags = restrictions(&layout.volume)?;
    let options = options(state);
    let folder = layout.folder.clone();
    let fail = Error::io("mount the stack at", target);
    // Names relative to the folder: no escaping, and a page holds many of them. Only a thread
    // of its own has a current directory of its own.
    let mounted = thread::scope(|scope| {
        let work = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
            nix::unistd::chdir(&folder)?;
            let options = Some(options.as_str());
            mount_call(
                Some("mycedrive-volume"),
                target,
                Some("overlay"),
                flags,
                options,
            )
        });
        work.join().unwrap_or(Err(Errno::EIO))
    });
    mounted.map_err(fail)?;
    // What is left when there was no room for OverlayFS's directories.
    let got = statvfs(target).map_err(Error::io("look at", target))?;
    if !got.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    umount2(target, flags).map_err(Error::io("unmount", target))?;
    let reason = "its stack can only be mounted read-only: its disk or quota may be used up";
    Err(Error::state(&layout.volume, reason))
}

fn options(state: State) -> String {
    let mut lower: Vec<String> = (state.first..=state.sealed)
        .rev()
        .map(|number| name_of(number, state))
        .collect();
    lower.push("base".to_owned());
    format!(
        "lowerdir={},upperdir=upper,workdir=work,{OPTIONS}",
        lower.join(":")
    )
}

fn restrictions(volume: &Path) -> Result<MsFlags> {
    let found = statvfs(volume)
        .map_err(Error::io("look at", volume))?
        .flags();
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    let mut flags = MsFlags::empty();
    for (has, flag) in pairs {
        flags.set(flag, found.contains(has));
    }
    Ok(flags)
}

/// Unmounts what [`mount`] mounted, and nothing when nothing is. Fails while somebody holds it.
pub fn unmount(volume: &Path, target: &Path) -> Result<()> {
    const TRIES: u32 = 100;
    if !is_mounted(target) {
        return Ok(());
    }
    let device = fs::metadata(target)
        .map_err(Error::io("look at", target))?
        .dev();
    let mut tries = 0;
    loop {
        // A container's mounts go a moment after its last process.
        let holder = holder(device, target);
        if holder.is_none() {
            match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL) => return Ok(()),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(Error::io("unmount", target)(errno)),
            }
        }
        tries += 1;
        if tries == TRIES {
            let holder =
                holder.unwrap_or_else(|| "a process that has a file of it open".to_owned());
            return Err(Error::InUse {
                volume: volume.to_owned(),
                holder,
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether something is mounted at exactly this path.
pub(crate) fn is_mounted(target: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev()).ok();
    let parent = target.parent().and_then(device);
    device(target).is_some_and(|found| Some(found) != parent)
}

/// A process in another mount namespace that has the file system mounted, other than where copies
/// of this namespace's mounts have it. Services of systemd begin with copies of all, and a pod that
/// has the node's `/` or `/run` as a volume sees those beneath it: they use nothing. All are in a
/// folder that is called as the target's is, which is a hash.
fn holder(device: u64, target: &Path) -> Option<String> {
    let wanted = format!("{}:{}", major(device), minor(device));
    let folder = target.parent().and_then(Path::file_name);
    let is_copy = |point: &Path| point.iter().any(|name| Some(name) == folder);
    elsewhere(|line| line.device == wanted && !is_copy(line.point))
}

/// A process in another mount namespace that has this directory, or one beneath it, as a mount
/// of its own: a container that uses the volume.
pub(crate) fn directory_holder(volume: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let lines = table.lines().filter_map(Line::parse);
    // The last one of several at the same place covers the others.
    let mount = lines
        .filter(|line| volume.starts_with(line.point))
        .max_by_key(|line| line.point.as_os_str().len())?;
    let inside = volume.strip_prefix(mount.point).ok()?;
    let root = if inside.as_os_str().is_empty() {
        mount.root.to_owned()
    } else {
        mount.root.join(inside)
    };
    // Copies of this namespace's own mounts, as services of systemd have them, use nothing.
    let own: Vec<Line<'_>> = table.lines().filter_map(Line::parse).collect();
    elsewhere(|line| {
        line.device == mount.device && line.root.starts_with(&root) && !own.contains(line)
    })
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(PartialEq, Eq)]
struct Line<'a> {
    device: &'a str,
    root: &'a Path,
    point: &'a Path,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        Some(Self {
            device: fields.next()?,
            root: Path::new(fields.next()?),
            point: Path::new(fields.next()?),
        })
    }
}

/// A process in another mount namespace with a mount that `wanted` picks.
fn elsewhere(wanted: impl Fn(&Line<'_>) -> bool) -> Option<String> {
    let own = fs::read_link("/proc/self/ns/mnt").ok()?;
    let mut seen = HashSet::from([own]);
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let path = entry.path();
        let Ok(namespace) = fs::read_link(path.join("ns/mnt")) else {
            continue;
        };
        if !seen.insert(namespace) {
            continue;
        }
        let table = fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
        if table
            .lines()
            .filter_map(Line::parse)
            .any(|line| wanted(&line))
        {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().into_owned();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
}

/// A stack can be mounted from this directory's file system: tried with empty directories.
pub(crate) fn probe(volume: &Path) -> Result<()> {
    let folder = volume.join(format!("{}.probe", crate::layout::FOLDER));
    let target = folder.join("target");
    make_dir(&folder)?;
    let tried = (|| {
        for name in ["base", "upper", "work", "target"] {
            make_dir(&folder.join(name))?;
        }
        let state = State::new(Phase::Stack, 0);
        let options = options(state);
        let mounted = thread::scope(|scope| {
            let work = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
                nix::unistd::chdir(&folder)?;
                let options = Some(options.as_str());
                let none = MsFlags::empty();
                mount_call(
                    Some("mycedrive-probe"),
                    "target",
                    Some("overlay"),
                    none,
                    options,
                )
            });
            work.join().unwrap_or(Err(Errno::EIO))
        });
        mounted.map_err(Error::io("mount a stack in", volume))?;
        // A read-only mount is what is left when upper or work do not do.
        let written = File::create(target.join("probe")).map(drop);
        let renamed = fs::rename(target.join("probe"), target.join("probe-2"));
        // Nobody uses it. A process that was just forked may have what was open here for a moment.
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        let unmounted = umount2(&target, flags);
        written.map_err(Error::io("write in a stack in", volume))?;
        renamed.map_err(Error::io("rename in a stack in", volume))?;
        unmounted.map_err(Error::io("unmount", &target))
    })();
    if let Err(error) = fs::remove_dir_all(&folder) {
        tracing::warn!(path = %folder.display(), %error, "an entry stays");
    }
    tried
}

//! The node's mounts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{InitConfig, install};
use crate::cgroup::Hierarchy;
use crate::{Error, Result};

/// Character devices of every node: name, major, minor.
const DEVICES: [(&str, u64, u64); 8] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("fuse", 10, 229),
    ("net/tun", 10, 200),
];

const NO_DATA: Option<&str> = None;

/// Puts the node's root together and makes it this process's root.
pub(super) fn mount_all(config: &InitConfig) -> Result<()> {
    attach(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None,
    )?;
    let root = config.own.join("root");
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        config.lower.display(),
        config.own.join("upper").display(),
        config.own.join("work").display()
    );
    attach(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(&layers),
    )?;
    for (from, to) in &config.binds {
        let target = below(&root, to);
        if from.is_dir() {
            make_dir(&target)?;
        } else if !target.exists() {
            fs::write(&target, "").map_err(Error::file("make", &target))?;
        }
        attach(
            from.to_str(),
            &target,
            None,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None,
        )?;
    }
    for (from, to) in &config.read_only {
        let target = below(&root, to);
        make_dir(&target)?;
        attach(from.to_str(), &target, None, MsFlags::MS_BIND, None)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        attach(None, &target, None, flags, None)?;
    }
    attach(
        Some("proc"),
        &root.join("proc"),
        Some("proc"),
        MsFlags::empty(),
        None,
    )?;
    attach(
        Some("sysfs"),
        &root.join("sys"),
        Some("sysfs"),
        MsFlags::empty(),
        None,
    )?;
    mount_groups(&root, &config.hierarchies)?;
    mount_devices(&root)?;
    for (dir, mode) in [("run", "mode=0755"), ("tmp", "mode=1777")] {
        attach(
            Some("tmpfs"),
            &root.join(dir),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(mode),
        )?;
    }
    make_dir(&root.join("run/testbed"))?;
    if let Some(programs) = &config.programs {
        // While the machine's files are still to be seen.
        install::into(&root, programs)?;
    }
    enter(&root)
}

fn mount_groups(root: &Path, hierarchies: &[Hierarchy]) -> Result<()> {
    let base = root.join("sys/fs/cgroup");
    if hierarchies.iter().all(|hierarchy| hierarchy.unified) {
        return attach(
            Some("cgroup2"),
            &base,
            Some("cgroup2"),
            MsFlags::empty(),
            None,
        );
    }
    attach(
        Some("tmpfs"),
        &base,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )?;
    for hierarchy in hierarchies.iter().filter(|hierarchy| !hierarchy.unified) {
        let target = base.join(hierarchy.mount.file_name().unwrap_or_default());
        make_dir(&target)?;
        attach(
            Some("cgroup"),
            &target,
            Some("cgroup"),
            MsFlags::empty(),
            Some(&hierarchy.options),
        )?;
        for controller in hierarchy
            .options
            .split(',')
            .filter(|_| hierarchy.options.contains(','))
        {
            // Other names of the same hierarchy: cpu and cpuacct for cpu,cpuacct.
            let link = base.join(controller);
            if !controller.contains('=') && controller != "none" && !link.exists() {
                symlink(&target, &link).map_err(Error::file("link", &link))?;
            }
        }
    }
    Ok(())
}

fn mount_devices(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    attach(
        Some("tmpfs"),
        &dev,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )?;
    for dir in ["net", "pts", "shm", "mqueue"] {
        make_dir(&dev.join(dir))?;
    }
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        mknod(
            &path,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(major, minor),
        )
        .map_err(Error::system(format!("make device {}", path.display())))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .map_err(Error::file("set the mode of", &path))?;
    }
    as_on_a_machine(&dev)?;
    let terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    attach(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::empty(),
        Some(terminals),
    )?;
    attach(
        Some("tmpfs"),
        &dev.join("shm"),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=1777"),
    )?;
    attach(
        Some("mqueue"),
        &dev.join("mqueue"),
        Some("mqueue"),
        MsFlags::empty(),
        None,
    )?;
    for (link, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = dev.join(link);
        symlink(target, &link).map_err(Error::file("link", &link))?;
    }
    Ok(())
}

/// Makes `root` the root of this mount namespace and lets go of the machine's.
fn enter(root: &Path) -> Result<()> {
    std::env::set_current_dir(root).map_err(Error::file("enter", root))?;
    nix::unistd::pivot_root(".", ".").map_err(Error::system("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::system("unmount the machine's root"))?;
    std::env::set_current_dir("/").map_err(Error::file("enter", "/"))?;
    // pods' mounts must propagate within the node, as they do on a real one
    attach(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_REC | MsFlags::MS_SHARED,
        None,
    )
}

/// Shows the kernel's own device files (devtmpfs), as `/dev` of a real node does: what a runtime
/// binds from there is of that file system. A kernel without it has those that were made.
fn as_on_a_machine(dev: &Path) -> Result<()> {
    let all = dev.join(".all");
    make_dir(&all)?;
    if mount(
        Some("devtmpfs"),
        &all,
        Some("devtmpfs"),
        MsFlags::empty(),
        NO_DATA,
    )
    .is_ok()
    {
        for (name, ..) in DEVICES {
            let from = all.join(name);
            if from.exists() {
                attach(from.to_str(), &dev.join(name), None, MsFlags::MS_BIND, None)?;
            }
        }
        umount2(&all, MntFlags::MNT_DETACH)
            .map_err(Error::system("unmount devtmpfs".to_owned()))?;
    }
    fs::remove_dir(&all).map_err(Error::file("remove", &all))
}

fn attach(
    from: Option<&str>,
    to: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    mount(from, to, kind, flags, data).map_err(Error::system(format!(
        "mount {} at {}",
        from.unwrap_or("propagation"),
        to.display()
    )))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::file("make", path))
}

fn below(root: &Path, path: &Path) -> std::path::PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

//! ID-mapped mounts, for pods with a user namespace: `uidmap=` and `gidmap=` among the options.
//!
//! Layers belong to the image's owners. An overlay gets its lower layers through a mount that maps
//! these to the namespace's owners (mount_setattr(2), MOUNT_ATTR_IDMAP); containerd has given the
//! upper layer to them already. Any other file system is mapped after it was mounted.

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Errno>;

/// The map of a user namespace, as it is written to /proc/PID/uid_map and gid_map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    uids: String,
    gids: String,
}

impl IdMap {
    /// Takes `uidmap=` and `gidmap=` out of the options; None if there are not both.
    pub fn take(data: &mut Vec<String>) -> Result<Option<Self>> {
        let mut map = Self::default();
        for option in data.iter() {
            if let Some(text) = option.strip_prefix("uidmap=") {
                map.uids = lines(text)?;
            } else if let Some(text) = option.strip_prefix("gidmap=") {
                map.gids = lines(text)?;
            }
        }
        data.retain(|option| !option.starts_with("uidmap=") && !option.starts_with("gidmap="));
        Ok((!map.uids.is_empty() && !map.gids.is_empty()).then_some(map))
    }

    /// A user namespace with this map. It lives as long as the descriptor.
    fn namespace(&self) -> Result<OwnedFd> {
        // SAFETY: without a stack of its own the child goes on with a copy of this process, as
        // after fork(2). It makes no call but pause(2) until it is killed, so it touches neither
        // locks nor memory that other threads may have been changing.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone,
                libc::CLONE_NEWUSER | libc::SIGCHLD,
                0,
                0,
                0,
                0,
            )
        };
        if pid == 0 {
            loop {
                // SAFETY: pause takes nothing and only returns after a signal handler.
                unsafe { libc::pause() };
            }
        }
        let pid = Pid::from_raw(Errno::result(pid)? as i32);
        let namespace = self.write(pid);
        let _ = kill(pid, Signal::SIGKILL);
        // The reaper runs on this thread: it cannot have come first.
        let _ = waitpid(pid, None);
        namespace
    }

    fn write(&self, pid: Pid) -> Result<OwnedFd> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        fs::write(process.join("uid_map"), &self.uids).map_err(errno)?;
        fs::write(process.join("gid_map"), &self.gids).map_err(errno)?;
        Ok(File::open(process.join("ns/user")).map_err(errno)?.into())
    }

    /// Shows `source` at `target` with owners mapped.
    pub fn bind(&self, source: &Path, target: &Path) -> Result<()> {
        let namespace = self.namespace()?;
        let (source, target) = (path(source)?, path(target)?);
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        // SAFETY: `source` is a string that ends with 0 and lives through the call.
        let tree =
            unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) };
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        let tree = unsafe { OwnedFd::from_raw_fd(Errno::result(tree)? as i32) };
        let attributes = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: namespace.as_raw_fd() as u64,
        };
        // SAFETY: the empty path and the attributes live through the call, and the size is theirs;
        // both descriptors are open.
        let set = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        Errno::result(set)?;
        // SAFETY: both paths end with 0 and live through the call; the descriptor is open.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                target.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        Errno::result(moved).map(drop)
    }
}

/// `CONTAINER:HOST:SIZE,…` as lines of a map file.
fn lines(text: &str) -> Result<String> {
    let mut all = String::new();
    for part in text.split(',') {
        let numbers: Vec<u32> = part
            .split(':')
            .map(|number| number.parse().map_err(|_| Errno::EINVAL))
            .collect::<Result<_>>()?;
        let [container, host, size] = numbers[..] else {
            return Err(Errno::EINVAL);
        };
        let _ = writeln!(all, "{container} {host} {size}"); // a String takes all
    }
    Ok(all)
}

fn path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The lower layers with owners mapped. The overlay keeps what it needs of them; this can be
/// dropped when it is mounted.
pub struct MappedLayers {
    directory: PathBuf,
}

impl MappedLayers {
    /// Shows `common`, which holds all layers, at the new directory `directory`, and changes
    /// `lowerdir=` in the options to that.
    pub fn new(
        map: &IdMap,
        common: &Path,
        directory: PathBuf,
        data: &mut [String],
    ) -> Result<Self> {
        fs::create_dir_all(&directory).map_err(errno)?;
        let layers = Self { directory };
        map.bind(common, &layers.directory)?;
        for option in data.iter_mut() {
            if let Some(lower) = option.strip_prefix("lowerdir=") {
                let lower: Vec<String> = lower
                    .split(':')
                    .map(|layer| {
                        let below = Path::new(layer)
                            .strip_prefix(common)
                            .unwrap_or(Path::new(""));
                        layers.directory.join(below).display().to_string()
                    })
                    .collect();
                *option = format!("lowerdir={}", lower.join(":"));
            }
        }
        Ok(layers)
    }
}

impl Drop for MappedLayers {
    fn drop(&mut self) {
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
#[path = "idmap_tests.rs"]
mod tests;

//! A directory of the node in a running container, for as long as a checkpoint takes.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::layout;
use crate::EngineError;
use crate::process::proc;

/// The directory over [`layout::IMAGES`] in the mount namespace of a process; until dropped.
pub(super) struct Mounted(File);

impl Mounted {
    /// Mounts `directory`.
    pub(super) fn new(pid: i32, directory: &Path) -> Result<Self, EngineError> {
        let path = proc(pid, "ns/mnt");
        let namespace = File::open(&path).map_err(EngineError::io("open", &path))?;
        let tree = tree(directory).map_err(EngineError::io("mount", directory))?;
        within(&namespace, move || {
            // SAFETY: the strings are C strings, the descriptor is a detached mount.
            Errno::result(unsafe {
                libc::syscall(
                    libc::SYS_move_mount,
                    tree.as_raw_fd(),
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    CString::new(layout::IMAGES)?.as_ptr(),
                    libc::MOVE_MOUNT_F_EMPTY_PATH,
                )
            })?;
            Ok(())
        })
        .map_err(EngineError::io("mount into the container", directory))?;
        Ok(Self(namespace))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, layout::IMAGES) {
            tracing::warn!(%error, "a directory stays mounted in a container");
        }
    }
}

/// Takes a mount out of a process's mount namespace.
pub(super) fn unmount_in(pid: i32, place: &'static str) -> io::Result<()> {
    unmount(&File::open(proc(pid, "ns/mnt"))?, place)
}

fn unmount(namespace: &File, place: &'static str) -> io::Result<()> {
    within(namespace, move || {
        umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
        Ok(())
    })
}

/// A copy of the mount that `directory` is in, with it as the root, attached nowhere.
fn tree(directory: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC,
        )
    };
    let tree = Errno::result(tree)?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as i32) })
}

/// Runs `work` in a mount namespace, on a thread of its own that shares no root or directory
/// with the others.
fn within<T: Send + 'static>(
    namespace: &File,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = namespace.try_clone()?;
    let thread = thread::Builder::new()
        .name("mount".to_owned())
        .stack_size(128 << 10)
        .spawn(move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&namespace, CloneFlags::CLONE_NEWNS)?;
            work()
        })?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a helper thread ended")))
}

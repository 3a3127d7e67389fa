//! Room that a stack keeps for itself where a quota can be used up by what programs write.
//!
//! Sealing, mounting and folding back make directories and short files, and entries in directories
//! that are full. All of that counts for the volume's project, and XFS grants no exception to root;
//! it also makes an inode only while some hundred KiB are free. Without room of its own a stack
//! whose project is used up could not become a directory again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;

use crate::check::inherited_project;
use crate::error::{Error, Result};
use crate::layout::Layout;

/// What is kept.
pub(crate) const KEPT: i64 = 1 << 20;
/// `QCMD(Q_GETQUOTA, PRJQUOTA)`, linux/quota.h.
const GET: u32 = (0x0080_0007 << 8) | 2;
/// Less is kept, by steps of this size, when the work itself needed some of it.
const STEP: usize = 64 << 10;

fn file(layout: &Layout) -> PathBuf {
    layout.part("room")
}

/// Takes the room, if the volume is in a project that can be used up. Fails when there is no such
/// room.
pub(crate) fn keep(layout: &Layout) -> Result<()> {
    let project = inherited_project(&layout.volume)?.unwrap_or(0);
    if project == 0 || !is_limited(&layout.volume, project) {
        return Ok(());
    }
    let path = file(layout);
    let made = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .and_then(|opened| Ok(fallocate(&opened, FallocateFlags::empty(), 0, KEPT)?));
    made.map_err(|source| Error::Room {
        volume: layout.volume.clone(),
        source,
    })
}

/// Whether a project has less than its disk. Kubelet gives projects to volumes only to measure them,
/// with a limit that nobody reaches; room that is kept would be counted there for nothing.
fn is_limited(volume: &Path, project: u32) -> bool {
    let Ok(opened) = File::open(volume) else {
        return false;
    };
    // SAFETY: a struct of plain numbers.
    let mut found: libc::dqblk = unsafe { std::mem::zeroed() };
    // SAFETY: quotactl_fd(2) with a descriptor that is open writes one such struct.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            opened.as_raw_fd(),
            GET,
            project,
            &raw mut found,
        )
    };
    // In KiB; 0: none.
    let limit = found.dqb_bhardlimit.saturating_mul(1024);
    let Ok(disk) = fstatvfs(&opened) else {
        return false;
    };
    // The project's limit, if that is less, in whole blocks.
    let size = disk.blocks() * disk.fragment_size();
    answer == 0 && limit > 0 && limit <= size + disk.fragment_size()
}

/// Gives the room back until the volume is a directory again.
pub(crate) fn give_back(layout: &Layout) -> Result<()> {
    let path = file(layout);
    match truncated(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("truncate", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Does `work` with the room given back, and takes what is left of it again.
pub(crate) fn with<T>(layout: &Layout, work: impl FnOnce() -> Result<T>) -> Result<T> {
    give_back(layout)?;
    let done = work();
    again(layout);
    done
}

fn again(layout: &Layout) {
    // It is not there where nothing was kept, and when the volume has become a directory.
    let Ok(opened) = OpenOptions::new().write(true).open(file(layout)) else {
        return;
    };
    let mut sizes = (0..=KEPT).rev().step_by(STEP).filter(|size| *size > 0);
    let kept = sizes.find(|size| fallocate(&opened, FallocateFlags::empty(), 0, *size).is_ok());
    if kept != Some(KEPT) {
        let volume = layout.volume.display();
        let bytes = kept.unwrap_or(0);
        tracing::warn!(%volume, bytes, "the volume's quota is used up: less room is kept for the stack");
    }
}

fn truncated(path: &Path) -> io::Result<()> {
    let opened: File = OpenOptions::new().write(true).open(path)?;
    opened.set_len(0)
}

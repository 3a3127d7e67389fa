//! Attributes of an inode: read them, and make them so.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::wire::{Attributes, Time};
use crate::xattr;

/// A change this soon before a stat may be followed by another one with the same ctime, because
/// kernels stamp with the time of the last tick (at most 10 ms, HZ=100).
const DOUBTFUL: i128 = 100_000_000;

/// The S_IFMT part of a mode.
pub(crate) const fn kind(mode: u32) -> u32 {
    mode & libc::S_IFMT
}

pub(crate) const fn is_dir(mode: u32) -> bool {
    kind(mode) == libc::S_IFDIR
}

pub(crate) const fn is_file(mode: u32) -> bool {
    kind(mode) == libc::S_IFREG
}

pub(crate) const fn ctime(stat: &FileStat) -> Time {
    Time {
        seconds: stat.st_ctime,
        nanos: stat.st_ctime_nsec as u32,
    }
}

/// Whether a stat taken now with this ctime may miss a change that follows at once.
pub(crate) fn is_doubtful(ctime: Time) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos() as i128;
    let changed = i128::from(ctime.seconds) * 1_000_000_000 + i128::from(ctime.nanos);
    now - changed < DOUBTFUL
}

/// The attributes to send for an inode.
pub(crate) fn read(fd: BorrowedFd<'_>, stat: &FileStat) -> io::Result<Attributes> {
    Ok(Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        atime: Time {
            seconds: stat.st_atime,
            nanos: stat.st_atime_nsec as u32,
        },
        mtime: Time {
            seconds: stat.st_mtime,
            nanos: stat.st_mtime_nsec as u32,
        },
        xattrs: xattr::read(fd)?,
    })
}

/// Applies attributes to the inode behind `fd` (which may be an O_PATH descriptor) of type `kind`.
///
/// The order matters: chown clears setuid and file capabilities, an ACL follows the mode whose
/// group bits it defines, and every one of these would be seen in times set before.
pub(crate) fn apply(fd: BorrowedFd<'_>, kind: u32, wanted: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
    fchownat(fd, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    if kind != libc::S_IFLNK {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mode = Mode::from_bits_truncate(wanted.mode);
        fchmodat(
            nix::fcntl::AT_FDCWD,
            path.as_str(),
            mode,
            FchmodatFlags::FollowSymlink,
        )?;
    }
    xattr::write(fd, &wanted.xattrs)?;
    set_times(fd, wanted.atime, wanted.mtime)
}

fn set_times(fd: BorrowedFd<'_>, atime: Time, mtime: Time) -> io::Result<()> {
    let spec = |time: Time| libc::timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanos),
    };
    let times = [spec(atime), spec(mtime)];
    // SAFETY: the path is an empty C string, `times` has the two entries that utimensat(2) reads.
    let result = unsafe {
        libc::utimensat(
            fd.as_raw_fd(),
            c"".as_ptr(),
            times.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

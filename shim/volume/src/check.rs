//! Whether a volume can be a stack and everything in it goes on meaning what it means. If not, it
//! is mounted plainly, and the reason is shown.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::sys::statfs::{FsType, statfs};

use crate::entries::{OVERLAY, Tree, is_dir, is_whiteout, names};
use crate::error::{Error, Result};
use crate::layout::{FOLDER, Found, find};
use crate::mount::probe;

/// A volume with more entries than this is not looked through: a start would take too long.
const MAX_ENTRIES: usize = 200_000;

/// File systems whose content is not this node's alone, or that are no disk (statfs(2),
/// linux/magic.h).
const NOT_THESE: &[(i64, &str)] = &[
    (0x0102_1994, "tmpfs, which is memory"),
    (0x8584_58f6, "ramfs, which is memory"),
    (0x9584_58f6, "hugetlbfs, which is memory"),
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0100_0000_0000 | 0x5346_414f, "AFS"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "CephFS"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (
        0x794c_7630,
        "overlay, on which no further overlay can be written",
    ),
];

/// Why a volume is mounted plainly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Of the wrong kind.
    #[error("its file system is {0}")]
    FileSystem(&'static str),
    /// No xattrs, no d_type, no whiteouts: the kernel says no.
    #[error("its file system cannot hold a stack ({0})")]
    Unable(String),
    /// A hard link in the base is broken up when it is written through one of its names.
    #[error("{0:?} has several hard links, which a stack would separate")]
    HardLink(String),
    /// Marks of another overlay would be read as this one's.
    #[error("{0:?} has marks of another overlay")]
    Marks(String),
    /// A mount inside would be hidden.
    #[error("something is mounted at {0:?} inside it")]
    Mount(String),
    /// Too large to look through.
    #[error("it has more than {MAX_ENTRIES} entries, too many to look through at a start")]
    Entries,
    /// Entries of another project cannot be renamed into directories of this one.
    #[error("{0:?} is not in the volume's quota project")]
    Project(String),
    /// The name of the folder is taken.
    #[error("it has an entry {FOLDER} of its own")]
    Name,
    /// Somebody uses it already.
    #[error("it is in use by {0}")]
    InUse(String),
}

/// Looks whether a plain volume can be a stack. Its content is not changed.
pub fn check(volume: &Path) -> Result<(), Reason> {
    let found = statfs(volume).map_err(|errno| Reason::Unable(errno.to_string()))?;
    let FsType(magic) = found.filesystem_type();
    let magic = magic & 0xffff_ffff;
    if let Some((_, name)) = NOT_THESE.iter().find(|(number, _)| *number == magic) {
        return Err(Reason::FileSystem(name));
    }
    let unable = |error: Error| Reason::Unable(error.to_string());
    if find(volume).map_err(unable)? == Found::Foreign {
        return Err(Reason::Name);
    }
    content(volume)?;
    probe(volume).map_err(unable)
}

fn content(volume: &Path) -> Result<(), Reason> {
    let unable = |error: Error| Reason::Unable(error.to_string());
    let tree = Tree::open(volume).map_err(unable)?;
    let device = nix::sys::stat::fstat(tree.root.fd())
        .map_err(|errno| Reason::Unable(errno.to_string()))?
        .st_dev;
    if has_marks(&tree, b"").map_err(unable)? {
        return Err(Reason::Marks(".".to_owned()));
    }
    let project = inherited_project(volume).map_err(unable)?;
    let mut todo = vec![Vec::new()];
    let mut count = 0;
    while let Some(directory) = todo.pop() {
        for entry in tree.list(&directory).map_err(unable)? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Reason::Entries);
            }
            let shown = || {
                let path = std::ffi::OsStr::from_bytes(&entry.path);
                Path::new(path).display().to_string()
            };
            if entry.stat.st_dev != device {
                return Err(Reason::Mount(shown()));
            }
            if is_whiteout(&entry.stat) || has_marks(&tree, &entry.path).map_err(unable)? {
                return Err(Reason::Marks(shown()));
            }
            if let Some(project) = project
                && has_project(&entry.stat)
                && project_of(&tree, &entry.path).map_err(unable)? != project
            {
                return Err(Reason::Project(shown()));
            }
            if is_dir(&entry.stat) {
                todo.push(entry.path);
            } else if entry.stat.st_nlink > 1 {
                return Err(Reason::HardLink(shown()));
            }
        }
    }
    Ok(())
}

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
struct Flags {
    bits: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    rest: [u8; 8],
}

const INHERITS_PROJECT: u32 = 0x200;

nix::ioctl_read!(get_flags, b'X', 31, Flags);

fn flags(file: &File) -> nix::Result<Flags> {
    let mut flags = Flags {
        bits: 0,
        extent_size: 0,
        extents: 0,
        project: 0,
        cow_extent_size: 0,
        rest: [0; 8],
    };
    // SAFETY: an open file, and the struct that this call fills.
    unsafe { get_flags(file.as_raw_fd(), &raw mut flags) }?;
    Ok(flags)
}

/// The quota project that everything that is made in the volume gets.
pub(crate) fn inherited_project(volume: &Path) -> Result<Option<u32>> {
    let opened = File::open(volume).map_err(Error::io("open", volume))?;
    // A file system without projects does not know the question.
    let found = flags(&opened).ok();
    Ok(found.and_then(|f| (f.bits & INHERITS_PROJECT != 0).then_some(f.project)))
}

/// Others cannot be asked for theirs.
fn has_project(stat: &nix::sys::stat::FileStat) -> bool {
    is_dir(stat) || stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

fn project_of(tree: &Tree, path: &[u8]) -> Result<u32> {
    let handle = tree.handle(path)?;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    let found = opened.and_then(|file| Ok(flags(&file)?.project));
    found.map_err(Error::io("read the project of an entry of", &tree.path))
}

fn has_marks(tree: &Tree, path: &[u8]) -> Result<bool> {
    use std::os::fd::AsFd as _;
    let fd = tree.handle(path)?;
    let all = names(fd.as_fd()).map_err(Error::io("read the attributes of", &tree.path))?;
    Ok(all.iter().any(|name| name.as_bytes().starts_with(OVERLAY)))
}

//! Random operations on a tree, as an application would do them.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{is_root, remove_xattr, set_xattr, xattrs};

/// One operation; numbers choose among what exists when it runs.
#[derive(Debug, Clone)]
pub enum Op {
    Dir {
        at: usize,
        name: usize,
    },
    File {
        at: usize,
        name: usize,
        size: usize,
        seed: u8,
    },
    Sparse {
        at: usize,
        name: usize,
        pieces: Vec<(u16, u16)>,
    },
    Symlink {
        at: usize,
        name: usize,
        target: usize,
    },
    Fifo {
        at: usize,
        name: usize,
    },
    Socket {
        at: usize,
        name: usize,
    },
    Device {
        at: usize,
        name: usize,
        block: bool,
        number: u8,
    },
    Whiteout {
        at: usize,
        name: usize,
    },
    Link {
        from: usize,
        at: usize,
        name: usize,
    },
    Rename {
        from: usize,
        at: usize,
        name: usize,
    },
    Exchange {
        a: usize,
        b: usize,
    },
    Remove {
        which: usize,
    },
    Write {
        which: usize,
        offset: u32,
        length: u16,
        seed: u8,
    },
    Truncate {
        which: usize,
        size: u32,
    },
    Punch {
        which: usize,
        offset: u32,
        length: u32,
    },
    Chmod {
        which: usize,
        mode: u32,
    },
    Chown {
        which: usize,
        uid: u32,
        gid: u32,
    },
    Xattr {
        which: usize,
        name: usize,
        value: Vec<u8>,
    },
    DropXattrs {
        which: usize,
    },
    Acl {
        which: usize,
        default: bool,
        user: u32,
    },
    Capability {
        which: usize,
    },
    Times {
        which: usize,
        seconds: i64,
        nanos: u32,
    },
}

pub fn op() -> impl Strategy<Value = Op> {
    use any as a;
    let n = || any::<usize>();
    prop_oneof![
        3 => (n(), n()).prop_map(|(at, name)| Op::Dir { at, name }),
        4 => (n(), n(), 0..200_000_usize, a::<u8>())
            .prop_map(|(at, name, size, seed)| Op::File { at, name, size, seed }),
        2 => (n(), n(), prop::collection::vec((0..200_u16, 1..9000_u16), 0..5))
            .prop_map(|(at, name, pieces)| Op::Sparse { at, name, pieces }),
        1 => (n(), n(), n()).prop_map(|(at, name, target)| Op::Symlink { at, name, target }),
        1 => (n(), n()).prop_map(|(at, name)| Op::Fifo { at, name }),
        1 => (n(), n()).prop_map(|(at, name)| Op::Socket { at, name }),
        1 => (n(), n(), a::<bool>(), a::<u8>())
            .prop_map(|(at, name, block, number)| Op::Device { at, name, block, number }),
        1 => (n(), n()).prop_map(|(at, name)| Op::Whiteout { at, name }),
        3 => (n(), n(), n()).prop_map(|(from, at, name)| Op::Link { from, at, name }),
        4 => (n(), n(), n()).prop_map(|(from, at, name)| Op::Rename { from, at, name }),
        2 => (n(), n()).prop_map(|(a, b)| Op::Exchange { a, b }),
        2 => n().prop_map(|which| Op::Remove { which }),
        3 => (n(), 0..300_000_u32, 1..9000_u16, a::<u8>())
            .prop_map(|(which, offset, length, seed)| Op::Write { which, offset, length, seed }),
        1 => (n(), 0..300_000_u32).prop_map(|(which, size)| Op::Truncate { which, size }),
        1 => (n(), 0..200_000_u32, 1..100_000_u32)
            .prop_map(|(which, offset, length)| Op::Punch { which, offset, length }),
        2 => (n(), 0..0o10000_u32).prop_map(|(which, mode)| Op::Chmod { which, mode }),
        1 => (n(), 0..70000_u32, 0..70000_u32)
            .prop_map(|(which, uid, gid)| Op::Chown { which, uid, gid }),
        2 => (n(), n(), prop::collection::vec(a::<u8>(), 0..300))
            .prop_map(|(which, name, value)| Op::Xattr { which, name, value }),
        1 => n().prop_map(|which| Op::DropXattrs { which }),
        1 => (n(), a::<bool>(), 1..70000_u32)
            .prop_map(|(which, default, user)| Op::Acl { which, default, user }),
        1 => n().prop_map(|which| Op::Capability { which }),
        1 => (n(), 0..4_000_000_000_i64, 0..1_000_000_000_u32)
            .prop_map(|(which, seconds, nanos)| Op::Times { which, seconds, nanos }),
    ]
}

const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"data.db",
    b"-",
    b" ",
    b"a\nb",
    b"\xff\xfe",
    b"*",
    b"a-b",
    b"a.b",
    "größe".as_bytes(),
    b"\\",
    b".hidden",
    b"...",
];

const XATTRS: [&str; 9] = [
    "user.plain",
    "user.overlay.origin",
    "trusted.plain",
    "trusted.overlay.opaque",
    "trusted.overlay.origin",
    "trusted.overlay.impure",
    "trusted.overlay.overlay.opaque",
    "trusted.overlay.originx",
    "security.plain",
];

/// A name; now and then one of 255 bytes.
fn name(number: usize) -> Vec<u8> {
    match number % 20 {
        short @ 0..16 => NAMES[short].to_vec(),
        long => vec![b'k' + long as u8 - 16; 255],
    }
}

pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Runs an operation; what is impossible at this moment is skipped.
    pub fn run(&self, op: &Op) {
        match op {
            Op::Dir { at, name } => drop(fs::create_dir(self.free(*at, *name))),
            Op::File {
                at,
                name,
                size,
                seed,
            } => {
                // Never opens what exists: it may be a fifo or a device.
                if let Ok(file) = File::create_new(self.free(*at, *name)) {
                    file.write_all_at(&noise(*size, *seed), 0).unwrap();
                }
            }
            Op::Sparse { at, name, pieces } => Self::sparse(&self.free(*at, *name), pieces),
            Op::Symlink {
                at,
                name: n,
                target,
            } => {
                let target = [&b"../"[..], &name(*target)].concat();
                let target = std::ffi::OsString::from_vec(target);
                drop(std::os::unix::fs::symlink(target, self.free(*at, *n)));
            }
            Op::Fifo { at, name } => self.mknod(*at, *name, libc::S_IFIFO, 0),
            Op::Socket { at, name } => self.mknod(*at, *name, libc::S_IFSOCK, 0),
            Op::Device {
                at,
                name,
                block,
                number,
            } => {
                let kind = if *block { libc::S_IFBLK } else { libc::S_IFCHR };
                if is_root() {
                    self.mknod(
                        *at,
                        *name,
                        kind,
                        libc::makedev(3000 + u32::from(*number), 3),
                    );
                }
            }
            Op::Whiteout { at, name } if is_root() => self.mknod(*at, *name, libc::S_IFCHR, 0),
            Op::Link { from, at, name } => {
                if let Some(from) = self.pick(*from, |kind| !kind.is_dir()) {
                    drop(fs::hard_link(from, self.free(*at, *name)));
                }
            }
            Op::Rename { from, at, name } => {
                if let Some(from) = self.pick(*from, |_| true) {
                    drop(fs::rename(from, self.free(*at, *name)));
                }
            }
            Op::Exchange { a, b } => self.exchange(*a, *b),
            Op::Remove { which } => {
                if let Some(path) = self.pick(*which, |_| true) {
                    drop(fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)));
                }
            }
            Op::Write {
                which,
                offset,
                length,
                seed,
            } => {
                if let Some(file) = self.open(*which) {
                    let bytes = noise(usize::from(*length), *seed);
                    file.write_all_at(&bytes, u64::from(*offset)).unwrap();
                }
            }
            Op::Truncate { which, size } => {
                if let Some(file) = self.open(*which) {
                    file.set_len(u64::from(*size)).unwrap();
                }
            }
            Op::Punch {
                which,
                offset,
                length,
            } => {
                if let Some(file) = self.open(*which) {
                    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                    let (offset, length) = (i64::from(*offset), i64::from(*length));
                    // SAFETY: plain integers and an open descriptor.
                    unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) };
                }
            }
            _ => self.attribute(op),
        }
    }

    fn attribute(&self, op: &Op) {
        let root = is_root();
        match op {
            Op::Chmod { which, mode } => {
                if let Some(path) = self.pick(*which, |kind| !kind.is_symlink()) {
                    let mode = if root { *mode } else { mode & 0o777 | 0o700 };
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            Op::Chown { which, uid, gid } if root => {
                if let Some(path) = self.pick(*which, |_| true) {
                    std::os::unix::fs::lchown(path, Some(*uid), Some(*gid)).unwrap();
                }
            }
            Op::Xattr { which, name, value } => {
                if let Some(path) = self.pick(*which, |_| true) {
                    set_xattr(&path, XATTRS[name % XATTRS.len()], value);
                }
            }
            Op::DropXattrs { which } => {
                if let Some(path) = self.pick(*which, |_| true) {
                    for name in xattrs(&path).keys() {
                        remove_xattr(&path, name);
                    }
                }
            }
            Op::Acl {
                which,
                default,
                user,
            } => {
                if let Some(path) = self.pick(*which, |kind| !kind.is_symlink()) {
                    let name = if *default && path.is_dir() {
                        "default"
                    } else {
                        "access"
                    };
                    set_xattr(&path, &format!("system.posix_acl_{name}"), &acl(*user));
                }
            }
            Op::Capability { which } if root => {
                if let Some(path) = self.pick(*which, fs::FileType::is_file) {
                    // VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE permitted and effective.
                    let mut value = [0; 20];
                    value[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
                    value[4..8].copy_from_slice(&(1_u32 << 10).to_le_bytes());
                    assert!(set_xattr(&path, "security.capability", &value));
                }
            }
            Op::Times {
                which,
                seconds,
                nanos,
            } => {
                if let Some(path) = self.pick(*which, |_| true) {
                    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
                    let time = libc::timespec {
                        tv_sec: *seconds,
                        tv_nsec: i64::from(*nanos),
                    };
                    // SAFETY: NUL-terminated path and two timespecs.
                    unsafe {
                        let flags = libc::AT_SYMLINK_NOFOLLOW;
                        libc::utimensat(libc::AT_FDCWD, path.as_ptr(), [time, time].as_ptr(), flags)
                    };
                }
            }
            _ => {}
        }
    }

    /// All paths, the root first; those too long for plain calls left out.
    fn paths(&self) -> Vec<PathBuf> {
        let mut found = vec![self.root.clone()];
        let mut at = 0;
        while at < found.len() {
            if found[at].symlink_metadata().unwrap().is_dir() && found[at].as_os_str().len() < 3000
            {
                let mut below: Vec<_> = fs::read_dir(&found[at])
                    .unwrap()
                    .map(|e| e.unwrap().path())
                    .collect();
                below.sort();
                found.extend(below);
            }
            at += 1;
        }
        found
    }

    fn free(&self, at: usize, number: usize) -> PathBuf {
        let dirs: Vec<_> = self
            .paths()
            .into_iter()
            .filter(|p| p.symlink_metadata().unwrap().is_dir() && p.as_os_str().len() < 3000)
            .collect();
        dirs[at % dirs.len()].join(std::ffi::OsString::from_vec(name(number)))
    }

    fn pick(&self, which: usize, like: impl Fn(&fs::FileType) -> bool) -> Option<PathBuf> {
        let mut paths = self.paths();
        paths.remove(0);
        paths.retain(|path| like(&path.symlink_metadata().unwrap().file_type()));
        if paths.is_empty() {
            None
        } else {
            Some(paths.swap_remove(which % paths.len()))
        }
    }

    fn open(&self, which: usize) -> Option<File> {
        let path = self.pick(which, fs::FileType::is_file)?;
        File::options().write(true).open(path).ok()
    }

    fn mknod(&self, at: usize, number: usize, kind: u32, device: u64) {
        let path = CString::new(self.free(at, number).into_os_string().into_vec()).unwrap();
        // SAFETY: NUL-terminated path.
        unsafe { libc::mknod(path.as_ptr(), kind | 0o640, device) };
    }

    fn exchange(&self, a: usize, b: usize) {
        let (Some(a), Some(b)) = (self.pick(a, |_| true), self.pick(b, |_| true)) else {
            return;
        };
        let a = CString::new(a.into_os_string().into_vec()).unwrap();
        let b = CString::new(b.into_os_string().into_vec()).unwrap();
        let (here, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
        // SAFETY: NUL-terminated paths.
        unsafe { libc::renameat2(here, a.as_ptr(), here, b.as_ptr(), flags) };
    }

    fn sparse(path: &Path, pieces: &[(u16, u16)]) {
        let Ok(file) = File::create_new(path) else {
            return;
        };
        file.set_len(1_000_000).unwrap();
        for (page, length) in pieces {
            file.write_all_at(&noise(usize::from(*length), 7), u64::from(*page) * 4096)
                .unwrap();
        }
        assert!(file.metadata().unwrap().size() >= 1_000_000);
    }
}

/// Bytes that do not compress much.
pub fn noise(size: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A POSIX ACL in its xattr form (linux/posix_acl_xattr.h) with one more user.
fn acl(user: u32) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, permissions, id) in [
        (0x01_u16, 6_u16, none),
        (0x02, 7, user),
        (0x04, 4, none),
        (0x10, 7, none),
        (0x20, 4, none),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

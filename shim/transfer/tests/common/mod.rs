//! A second, independent look at a tree: everything that must arrive, read with plain calls.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod script;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mycedrive_transfer::{
    Budget, FrameReader, FrameWriter, Options, Result, Round, RoundSummary, Section, TreeId,
    TreeReceiver, TreeSender,
};

pub fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A directory on a real file system, removed at the end.
pub fn tempdir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("mycedrive-transfer-")
        .tempdir_in("/var/tmp")
        .unwrap()
}

#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, i64),
    pub device: u64,
    pub size: u64,
    pub target: Vec<u8>,
    pub content: Option<blake3::Hash>,
    pub segments: Vec<(i64, i64)>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub links: Vec<Vec<u8>>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links: Vec<_> = self
            .links
            .iter()
            .map(|l| String::from_utf8_lossy(l))
            .collect();
        let xattrs: Vec<_> = self
            .xattrs
            .iter()
            .map(|(n, v)| {
                (
                    String::from_utf8_lossy(n),
                    blake3::hash(v).to_hex()[..8].to_owned(),
                )
            })
            .collect();
        write!(
            f,
            "{:o} {}:{} {:?} dev {} size {} -> {:?} {:?} {:?} {xattrs:?} links {links:?}",
            self.mode,
            self.uid,
            self.gid,
            self.mtime,
            self.device,
            self.size,
            String::from_utf8_lossy(&self.target),
            self.content.map(|hash| hash.to_hex()[..8].to_owned()),
            self.segments,
        )
    }
}

pub type Snapshot = BTreeMap<Vec<u8>, Entry>;

/// Overlay attributes that stay on the source by design.
const STAYS: [&str; 4] = ["origin", "impure", "nlink", "uuid"];

pub fn snapshot(root: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let top = fs::canonicalize(root).unwrap();
    found.insert(Vec::new(), entry(&top));
    walk(&File::open(&top).unwrap(), &[], &mut found, &mut inodes);
    for names in inodes.values() {
        for name in names {
            found.get_mut(name).unwrap().links.clone_from(names);
        }
    }
    found
}

fn walk(dir: &File, prefix: &[u8], found: &mut Snapshot, inodes: &mut BTreeMap<u64, Vec<Vec<u8>>>) {
    let here = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let mut names: Vec<_> = fs::read_dir(&here)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    for name in names {
        let path = here.join(&name);
        let mut key = prefix.to_vec();
        if !key.is_empty() {
            key.push(b'/');
        }
        key.extend_from_slice(name.as_bytes());
        let meta = fs::symlink_metadata(&path).unwrap();
        found.insert(key.clone(), entry(&path));
        if meta.is_dir() {
            walk(&File::open(&path).unwrap(), &key, found, inodes);
        } else {
            inodes.entry(meta.ino()).or_default().push(key);
        }
    }
}

fn entry(path: &Path) -> Entry {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let (mut content, mut segments) = (None, Vec::new());
    if kind.is_file() {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NOATIME)
            .open(path)
            .unwrap();
        segments = data_segments(&file, meta.size() as i64);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = file.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        content = Some(hasher.finalize());
    }
    let target = if kind.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_vec()
    } else {
        Vec::new()
    };
    let device = kind.is_block_device() || kind.is_char_device();
    Entry {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        device: if device { meta.rdev() } else { 0 },
        size: if kind.is_file() { meta.size() } else { 0 },
        target,
        content,
        segments,
        xattrs: xattrs(path),
        links: Vec::new(),
    }
}

fn data_segments(file: &File, size: i64) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    let mut at = 0;
    // SAFETY: plain integers and an open descriptor.
    let seek = |offset, whence| unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    while at < size {
        let start = seek(at, libc::SEEK_DATA);
        if start < 0 {
            break;
        }
        let end = seek(start, libc::SEEK_HOLE).min(size);
        found.push((start, end));
        at = end;
    }
    seek(0, libc::SEEK_SET);
    found
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let path = c_path(path);
    let mut buffer = vec![0_u8; 1 << 16];
    // SAFETY: NUL-terminated path, buffer with its length.
    let size = unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    if size < 0 {
        return BTreeMap::new();
    }
    let names: Vec<Vec<u8>> = buffer[..size as usize]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    let mut found = BTreeMap::new();
    for name in names {
        if STAYS
            .iter()
            .any(|s| name == format!("trusted.overlay.{s}").as_bytes())
        {
            continue;
        }
        let c_name = CString::new(name.clone()).unwrap();
        let mut value = vec![0_u8; 1 << 16];
        // SAFETY: NUL-terminated strings, buffer with its length.
        let size = unsafe {
            let (at, length) = (value.as_mut_ptr(), value.len());
            libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), at.cast(), length)
        };
        assert!(size >= 0, "{}", name.escape_ascii());
        value.truncate(size as usize);
        found.insert(name, value);
    }
    found
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    let (path, name) = (c_path(path), CString::new(name).unwrap());
    // SAFETY: NUL-terminated strings, value with its length.
    unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        ) == 0
    }
}

pub fn remove_xattr(path: &Path, name: &[u8]) {
    let (path, name) = (c_path(path), CString::new(name).unwrap());
    // SAFETY: NUL-terminated strings.
    unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) };
}

/// Panics with the first few differences.
pub fn assert_same(source: &Path, destination: &Path) {
    let (from, to) = (snapshot(source), snapshot(destination));
    let mut differences = Vec::new();
    for (path, entry) in &from {
        let name = path.escape_ascii();
        match to.get(path) {
            None => differences.push(format!("{name} did not arrive: {entry:?}")),
            Some(other) if other != entry => {
                differences.push(format!("{name}\n  sent {entry:?}\n  came {other:?}"));
            }
            Some(_) => {}
        }
    }
    for path in to.keys().filter(|path| !from.contains_key(*path)) {
        differences.push(format!("{} should not be there", path.escape_ascii()));
    }
    let first = differences
        .iter()
        .take(5)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        differences.is_empty(),
        "{} differences:\n{first}",
        differences.len()
    );
}

/// Sends one round into a buffer.
pub fn send(sender: &mut TreeSender, round: Round<'_>) -> (Vec<u8>, RoundSummary) {
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    let id = TreeId::new("tree").unwrap();
    let summary = sender.send_round(&mut out, &id, round).unwrap();
    (out.finish().unwrap().0, summary)
}

/// Receives a stream with one tree.
pub fn receive(receiver: &mut TreeReceiver, stream: &[u8]) -> Result<()> {
    let mut reader = FrameReader::new(stream, &Budget::default())?;
    while let Some(section) = reader.next_section()? {
        match section {
            Section::Tree(begin) => {
                receiver.receive_round(&mut reader, &begin)?;
            }
            Section::Images(_) => panic!("no images were sent"),
        }
    }
    assert!(reader.into_inner().is_empty(), "bytes were left over");
    Ok(())
}

pub fn transfer(
    sender: &mut TreeSender,
    receiver: &mut TreeReceiver,
    round: Round<'_>,
) -> RoundSummary {
    let (stream, summary) = send(sender, round);
    receive(receiver, &stream).unwrap();
    summary
}

/// A receiver with a default budget.
pub fn receiver(root: &Path) -> TreeReceiver {
    TreeReceiver::new(root, &Budget::default()).unwrap()
}

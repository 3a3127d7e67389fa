//! What a receiver finds in its directory, for a sender that has no index of it: after a broken
//! stream, a restart, or when the directory holds an older copy. The next round then carries
//! only what differs, as a delta does.
//!
//! A list of entries, compressed with zstd:
//! `path as bytes, kind u32, device u64, group u32, count u32, count × (block u64, digest)`.
//! Entries with one group are one inode.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::fcntl::OFlag;

use super::index::{Index, Inode, RelPath};
use super::known::{Block, Content};
use super::scan::{Scan, is_race, scan};
use super::{content, meta};
use crate::beneath::{Root, STAGING, check_path};
use crate::error::{Error, Result};
use crate::wire::{Cursor, Put as _, Time};

/// Most bytes of a list before compression.
const MAX_LIST: usize = 64 << 20;
/// Numbers of inodes that the sender does not have count down from here.
const NOBODYS: u64 = u64::MAX;

/// Lists the directory `root`. `None`: it is empty, or the list would be larger than `limit`
/// bytes, and a full round is better.
pub fn have(root: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    let root = Root::open(root)?;
    remove_staging(&root)?;
    let found = scan(&root, true)?;
    if found.len() < 2 {
        return Ok(None);
    }
    let mut list = Vec::new();
    let mut groups: HashMap<u64, u32> = HashMap::new();
    for (path, entry) in &found {
        let kind = meta::kind(entry.stat.st_mode);
        let next = groups.len() as u32;
        let group = *groups.entry(entry.stat.st_ino).or_insert(next);
        let blocks = if kind == libc::S_IFREG {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            let fd = root
                .at(path, flags)
                .map_err(|e| Error::io("open", path, e))?;
            content::digests(&File::from(fd), path, entry.stat.st_size as u64)?
        } else {
            Vec::new()
        };
        list.put_bytes(path);
        list.put_u32(kind);
        list.put_u64(entry.stat.st_rdev);
        list.put_u32(group);
        list.put_u32(blocks.len() as u32);
        for (number, digest) in blocks {
            list.put_u64(number);
            list.extend_from_slice(&digest);
        }
        if list.len() > MAX_LIST {
            return Ok(None);
        }
    }
    let packed = zstd::encode_all(list.as_slice(), 1).map_err(Error::Compression)?;
    Ok((packed.len() <= limit).then_some(packed))
}

/// An interrupted round may have left it; what was parked there is sent again.
fn remove_staging(root: &Root) -> Result<()> {
    let staging = match root.directory(STAGING) {
        Err(errno) if is_race(errno) => return Ok(()),
        other => other.map_err(|e| Error::io("open", STAGING, e))?,
    };
    super::wipe(&Root::of(staging.as_fd())?)?;
    use nix::unistd::{UnlinkatFlags, unlinkat};
    unlinkat(root.fd(), STAGING, UnlinkatFlags::RemoveDir)
        .map_err(|e| Error::io("remove", STAGING, e))
}

/// The index of a receiver that sent `list`, as far as this tree has the same entries. What it has
/// and this tree lacks gets numbers that no inode has, and so is removed.
pub(super) fn index(list: &[u8], own: &Scan) -> Result<Index> {
    let list = unpack(list)?;
    let mut cursor = Cursor::new("Have", &list);
    let mut entries = Vec::new();
    while !cursor.is_empty() {
        entries.push(entry(&mut cursor)?);
    }
    // One inode there is one here, and the other way round; otherwise writing the one would
    // write others.
    let mut theirs: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    let mut ours: HashMap<u64, Option<u32>> = HashMap::new();
    for entry in &entries {
        let Some(ino) = matching(own, entry) else {
            theirs.insert(entry.group, None);
            continue;
        };
        let known = theirs.entry(entry.group).or_insert(Some(ino));
        if *known != Some(ino) {
            *known = None;
        }
        let known = ours.entry(ino).or_insert(Some(entry.group));
        if *known != Some(entry.group) {
            *known = None;
        }
    }
    let mut index = Index::default();
    for entry in entries {
        let ino = theirs
            .get(&entry.group)
            .copied()
            .flatten()
            .filter(|ino| ours.get(ino) == Some(&Some(entry.group)));
        let ino = ino.unwrap_or(NOBODYS - u64::from(entry.group));
        index.paths.insert(entry.path, ino);
        index.inodes.entry(ino).or_insert(Inode {
            kind: entry.kind,
            device: entry.device,
            ctime: Time::default(),
            doubtful: true,
            blocks: entry.blocks,
        });
    }
    Ok(index)
}

fn matching(own: &Scan, entry: &Entry) -> Option<u64> {
    let found = own.get(&entry.path)?;
    (meta::kind(found.stat.st_mode) == entry.kind).then_some(found.stat.st_ino)
}

struct Entry {
    path: RelPath,
    kind: u32,
    device: u64,
    group: u32,
    blocks: Vec<Block>,
}

fn entry(cursor: &mut Cursor<'_>) -> Result<Entry> {
    let path = cursor.bytes()?;
    check_path(path)?;
    let (kind, device, group) = (cursor.u32()?, cursor.u64()?, cursor.u32()?);
    let count = cursor.u32()? as usize;
    let mut blocks: Vec<Block> = Vec::new();
    for _ in 0..count {
        let number = cursor.u64()?;
        if blocks.last().is_some_and(|before| before.number >= number) {
            return Err(cursor.bad("its blocks are not in order"));
        }
        blocks.push(Block {
            number,
            content: Content::Listed(cursor.array()?),
            prints: None,
        });
    }
    Ok(Entry {
        path: path.into(),
        kind,
        device,
        group,
        blocks,
    })
}

fn unpack(list: &[u8]) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut unpacked = Vec::new();
    zstd::Decoder::new(list)
        .and_then(|decoder| {
            let mut bounded = decoder.take(MAX_LIST as u64 + 1);
            bounded.read_to_end(&mut unpacked)
        })
        .map_err(Error::Compression)?;
    if unpacked.len() > MAX_LIST {
        let (size, limit) = (unpacked.len() as u64, MAX_LIST as u64);
        return Err(Error::TooLarge {
            what: "a list of what the receiver has",
            size,
            limit,
        });
    }
    Ok(unpacked)
}

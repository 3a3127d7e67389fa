//! Unpacking an archive with few, simple entries.
//!
//! Archives come from another node and are hostile. The directory that they are unpacked into is that
//! of a new tmpfs. Each entry must be directly in a directory that the archive itself made before, and no
//! path comes twice: so nothing leads out of it by a link. What does not look so is left to the node's
//! `tar`, which has its own ways.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use tar::{Archive, EntryType, Header};

use super::{Failed, MOST_BYTES, MOST_ENTRIES};

enum Kind {
    Directory,
    Node(SFlag, u64),
    Link(OsString),
    File(Vec<u8>),
}

struct Entry {
    mode: Mode,
    owner: Uid,
    group: Gid,
    /// Seconds since 1970.
    modified: i64,
    kind: Kind,
}

/// By their paths, of which that of the directory itself is `.`: a directory comes before what is in it.
type Entries = BTreeMap<PathBuf, Entry>;

/// Unpacks an archive in a directory. Nothing is made before all of it has been read.
pub(super) fn unpack(from: impl Read, directory: &File) -> Result<(), Failed> {
    let entries = read(from)?;
    for (path, entry) in &entries {
        make(directory, path, entry)?;
    }
    // What is made in a directory changes its time.
    for (path, entry) in entries.iter().rev() {
        let time = TimeSpec::new(entry.modified, 0);
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(directory, path, &time, &time, flags).map_err(io::Error::from)?;
    }
    Ok(())
}

/// Everything in an archive, if all of it is simple.
fn read(from: impl Read) -> Result<Entries, Failed> {
    // The headers of that many entries, and some blocks of zeroes at the end.
    let limit = MOST_BYTES + (MOST_ENTRIES as u64) * 1024 + 65536;
    let mut archive = Archive::new(GzDecoder::new(from).take(limit));
    let damaged = |_| Failed::Other("it cannot be read");
    let mut entries = Entries::new();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path_bytes().into_owned();
        let path = simple(&PathBuf::from(OsString::from_vec(path)), &entries)?;
        if entries.len() >= MOST_ENTRIES {
            return Err(Failed::Other("it has many entries"));
        }
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Char => Kind::Node(SFlag::S_IFCHR, number(header).map_err(damaged)?),
            EntryType::Block => Kind::Node(SFlag::S_IFBLK, number(header).map_err(damaged)?),
            EntryType::Symlink => match entry.link_name_bytes() {
                Some(target) if !target.is_empty() => {
                    Kind::Link(OsString::from_vec(target.into_owned()))
                }
                _ => return Err(Failed::Other("a link leads nowhere")),
            },
            EntryType::Regular => {
                if header.entry_size().map_err(damaged)? > MOST_BYTES {
                    return Err(Failed::Other("its files are large"));
                }
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(damaged)?;
                Kind::File(bytes)
            }
            _ => return Err(Failed::Other("it has entries of other kinds")),
        };
        let entry = attributes(entry.header(), kind).map_err(damaged)?;
        entries.insert(path, entry);
    }
    // To the end, where the checksum is: what was cut off is not unpacked.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
    if rest.limit() == 0 {
        return Err(Failed::Other("it is large"));
    }
    Ok(entries)
}

/// A path as it is kept, if it is directly in a directory of the archive and not there yet.
fn simple(path: &Path, entries: &Entries) -> Result<PathBuf, Failed> {
    let mut clean = PathBuf::from(".");
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            _ => return Err(Failed::Other("a path leads out of it")),
        }
    }
    if entries.contains_key(&clean) {
        return Err(Failed::Other("a path comes twice"));
    }
    match clean.parent() {
        // The directory itself.
        None => Ok(clean),
        Some(above) if above.as_os_str().is_empty() => Ok(clean),
        Some(above) => match entries.get(above) {
            Some(Entry {
                kind: Kind::Directory,
                ..
            }) => Ok(clean),
            _ => Err(Failed::Other("a path is in no directory of it")),
        },
    }
}

fn number(header: &Header) -> io::Result<u64> {
    let missing = || io::Error::other("no number");
    let major = header.device_major()?.ok_or_else(missing)?;
    let minor = header.device_minor()?.ok_or_else(missing)?;
    Ok(makedev(major.into(), minor.into()))
}

fn attributes(header: &Header, kind: Kind) -> io::Result<Entry> {
    let id = |number: u64| u32::try_from(number).map_err(io::Error::other);
    Ok(Entry {
        mode: Mode::from_bits_truncate(header.mode()? & 0o7777),
        owner: Uid::from_raw(id(header.uid()?)?),
        group: Gid::from_raw(id(header.gid()?)?),
        modified: i64::try_from(header.mtime()?).map_err(io::Error::other)?,
        kind,
    })
}

fn make(directory: &File, path: &Path, entry: &Entry) -> io::Result<()> {
    let made = || -> nix::Result<()> {
        match &entry.kind {
            Kind::Directory if path == Path::new(".") => Ok(()),
            Kind::Directory => mkdirat(directory, path, Mode::S_IRWXU),
            Kind::Node(kind, number) => mknodat(directory, path, *kind, Mode::S_IRUSR, *number),
            Kind::Link(target) => symlinkat(target.as_os_str(), directory, path),
            Kind::File(_) => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                openat(directory, path, flags, Mode::S_IRUSR).map(drop)
            }
        }
    };
    match made() {
        Err(Errno::EEXIST) => {
            let found = fstatat(directory, path, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            let format = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
            if !(format == SFlag::S_IFDIR && matches!(entry.kind, Kind::Directory)) {
                // As tar does.
                unlinkat(directory, path, UnlinkatFlags::NoRemoveDir)?;
                made()?;
            }
        }
        other => other?,
    }
    if let Kind::File(bytes) = &entry.kind {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        File::from(openat(directory, path, flags, Mode::empty())?).write_all(bytes)?;
    }
    let (owner, group) = (Some(entry.owner), Some(entry.group));
    fchownat(directory, path, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if !matches!(entry.kind, Kind::Link(_)) {
        // Of what was just made, which is no link.
        fchmodat(directory, path, entry.mode, FchmodatFlags::FollowSymlink)?;
    }
    Ok(())
}

//! Making an archive of a tmpfs with few, simple entries.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use tar::{Builder, EntryType, Header};

use super::{Failed, MOST_BYTES, MOST_ENTRIES};

/// What an entry is, besides its attributes.
enum Kind {
    Directory,
    Device(EntryType),
    Link(PathBuf),
    File(Vec<u8>),
}

struct Entry {
    path: PathBuf,
    attributes: FileStat,
    kind: Kind,
}

/// Writes an archive of what is below the directory `from`, and of that itself. Nothing is written
/// before all of it has been read.
pub(super) fn archive(from: &File, to: &File) -> Result<(), Failed> {
    let mut found = Found::default();
    let attributes = fstat(from).map_err(io::Error::from)?;
    let device = attributes.st_dev;
    found.add(Path::new("./"), attributes, Kind::Directory)?;
    found.walk(from, Path::new("."), device)?;
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for entry in found.entries {
        append(&mut builder, entry)?;
    }
    let archive = builder.into_inner()?.finish()?;
    let mut to = to;
    Ok(to.write_all(&archive)?)
}

#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    bytes: u64,
}

impl Found {
    fn add(&mut self, path: &Path, attributes: FileStat, kind: Kind) -> Result<(), Failed> {
        // What is longer has no place in a header.
        if path.as_os_str().len() > 99 {
            return Err(Failed::Other("a path is long"));
        }
        if self.entries.len() >= MOST_ENTRIES {
            return Err(Failed::Other("it has many entries"));
        }
        self.entries.push(Entry {
            path: path.to_owned(),
            attributes,
            kind,
        });
        Ok(())
    }

    fn walk(&mut self, directory: &File, at: &Path, device: u64) -> Result<(), Failed> {
        let mut names = Vec::new();
        let copy = openat(directory, c".", FLAGS | OFlag::O_DIRECTORY, Mode::empty());
        let mut list = Dir::from_fd(copy.map_err(io::Error::from)?).map_err(io::Error::from)?;
        for entry in list.iter() {
            let name = entry.map_err(io::Error::from)?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        for name in names {
            let path = at.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            self.look(directory, &name, &path, device)?;
        }
        Ok(())
    }

    fn look(
        &mut self,
        directory: &File,
        name: &CStr,
        path: &Path,
        device: u64,
    ) -> Result<(), Failed> {
        let attributes =
            fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(io::Error::from)?;
        let format = SFlag::from_bits_truncate(attributes.st_mode) & SFlag::S_IFMT;
        let here = attributes.st_dev == device;
        if format == SFlag::S_IFDIR {
            // With the slash that `tar` writes.
            self.add(&path.join(""), attributes, Kind::Directory)?;
            if here {
                let flags = FLAGS | OFlag::O_DIRECTORY;
                let below = openat(directory, name, flags, Mode::empty());
                let below = File::from(below.map_err(io::Error::from)?);
                self.walk(&below, path, device)?;
            }
            return Ok(());
        }
        if !here {
            return Err(Failed::Other("something is mounted on a file"));
        }
        if attributes.st_nlink != 1 {
            return Err(Failed::Other("a file has several names"));
        }
        let kind = match format {
            SFlag::S_IFCHR => Kind::Device(EntryType::Char),
            SFlag::S_IFBLK => Kind::Device(EntryType::Block),
            SFlag::S_IFLNK => {
                let target = readlinkat(directory, name).map_err(io::Error::from)?;
                if target.len() > 99 {
                    return Err(Failed::Other("a link's target is long"));
                }
                Kind::Link(PathBuf::from(target))
            }
            SFlag::S_IFREG => {
                self.bytes += attributes.st_size as u64;
                if self.bytes > MOST_BYTES {
                    return Err(Failed::Other("its files are large"));
                }
                Kind::File(contents(directory, name, attributes.st_size as u64)?)
            }
            _ => return Err(Failed::Other("it has fifos or sockets")),
        };
        self.add(path, attributes, kind)
    }
}

/// What became a fifo meanwhile does not hold it up.
const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

fn contents(directory: &impl AsFd, name: &CStr, size: u64) -> Result<Vec<u8>, Failed> {
    let file = openat(directory, name, FLAGS, Mode::empty()).map_err(io::Error::from)?;
    let mut bytes = Vec::new();
    File::from(file).take(size + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(Failed::Other("a file changes"))
    }
}

fn append(builder: &mut Builder<impl io::Write>, entry: Entry) -> io::Result<()> {
    let Entry {
        path,
        attributes,
        kind,
    } = entry;
    let mut header = Header::new_gnu();
    header.set_mode(attributes.st_mode & 0o7777);
    header.set_uid(attributes.st_uid.into());
    header.set_gid(attributes.st_gid.into());
    header.set_mtime(attributes.st_mtime.try_into().unwrap_or(0));
    header.set_size(0);
    let name = path.as_os_str().as_bytes();
    // As it is: what the crate's own function takes loses the dot.
    copy(&mut header.as_old_mut().name, name);
    let mut data: &[u8] = &[];
    match &kind {
        Kind::Directory => header.set_entry_type(EntryType::Directory),
        Kind::Device(kind) => {
            header.set_entry_type(*kind);
            header.set_device_major(major(attributes.st_rdev) as u32)?;
            header.set_device_minor(minor(attributes.st_rdev) as u32)?;
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            copy(
                &mut header.as_old_mut().linkname,
                target.as_os_str().as_bytes(),
            );
        }
        Kind::File(bytes) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            data = bytes;
        }
    }
    header.set_cksum();
    builder.append(&header, data)
}

/// Into a field that is longer, and ends with zeroes.
fn copy(field: &mut [u8], value: &[u8]) {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
}

//! The processes of a container, and the private memory of each while it runs.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};

use super::PAGE;
use super::maps::{file, private};
use crate::beneath::split;
use crate::error::{Error, Result};

/// How many pages are read at once.
const PIECE: usize = 128;
/// Ranges that one look at the page tables returns at most.
const RANGES: usize = 512;
/// Where the kernel cannot list pages, mappings beyond this are left for the freeze: their page
/// tables would be read entry by entry.
const LARGEST: u64 = 64 << 30;

/// Private mappings of files beyond this are left for the freeze.
const LARGEST_FILE: u64 = 256 << 20;

/// In which form an engine's images hold memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By address; pages that are those of a file are not in them.
    Criu,
    /// Pages of every mapping, files' too, without their addresses.
    Pages,
}

/// A page of a process's memory.
pub(super) struct Page<'a> {
    pub(super) address: u64,
    pub(super) content: &'a [u8],
    /// The file that is mapped there, as the container names it, and where in it, in bytes. The
    /// page may have been written since it was read from there.
    pub(super) file: Option<(&'a [u8], u64)>,
}

/// A process of a container.
#[derive(Debug)]
pub struct MemoryProcess {
    /// What its images will be.
    pub(super) form: Form,
    /// Its image: `CONTAINER/pagemap-PID.img`, with its pid in the container.
    pub(super) file: Box<[u8]>,
    /// Its directory in /proc. Stays that of this process, and of no other with the same pid.
    directory: File,
}

impl MemoryProcess {
    /// All processes of the container whose first process is `pid`, which has a pid namespace of
    /// its own: of another one there is none.
    pub fn of_container(container: &str, pid: i32, form: Form) -> io::Result<Vec<Self>> {
        let namespace = namespace(&File::open(format!("/proc/{pid}"))?)?;
        if namespace == fs::metadata("/proc/self/ns/pid")?.ino() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name();
            if name
                .to_str()
                .is_none_or(|name| name.parse::<i32>().is_err())
            {
                continue;
            }
            // One that ends meanwhile has no memory to read.
            if let Some(process) = Self::open(container, &entry.path(), namespace, form) {
                found.push(process);
            }
        }
        Ok(found)
    }

    /// The process that runs this test.
    #[cfg(test)]
    pub(super) fn of_this_process(form: Form) -> Self {
        Self {
            form,
            file: (*b"redis/pagemap-1.img").into(),
            directory: File::open("/proc/self").unwrap(),
        }
    }

    fn open(container: &str, path: &Path, wanted: u64, form: Form) -> Option<Self> {
        let directory = File::open(path).ok()?;
        if namespace(&directory).ok()? != wanted {
            return None;
        }
        let mut status = String::new();
        let mut file = open(&directory, "status").ok()?;
        file.read_to_string(&mut status).ok()?;
        let pid = inner_pid(&status)?;
        Some(Self {
            form,
            file: format!("{container}/pagemap-{pid}.img").into_bytes().into(),
            directory,
        })
    }

    /// The container.
    pub(super) fn container(&self) -> &[u8] {
        split(&self.file).0
    }

    /// Calls `page` with every page of private memory that the engine would dump, by ascending
    /// address. What vanishes meanwhile is left out; so is a process that has ended.
    pub(super) fn read(&self, mut page: impl FnMut(&Page<'_>) -> Result<()>) -> Result<()> {
        let mut maps = Vec::new();
        let (Ok(mut list), Ok(pagemap), Ok(memory)) = (
            open(&self.directory, "maps"),
            open(&self.directory, "pagemap"),
            open(&self.directory, "mem"),
        ) else {
            return Ok(());
        };
        if list.read_to_end(&mut maps).is_err() {
            return Ok(());
        }
        let tables = Tables { pagemap };
        let mut buffer = vec![0; PIECE * PAGE];
        for line in maps.split(|byte| *byte == b'\n') {
            let Some((start, end)) = private(line) else {
                continue;
            };
            if self.form == Form::Pages
                && let Some((path, offset)) = file(line)
            {
                if end - start <= LARGEST_FILE {
                    copy(&memory, start, end, &mut buffer, |address, content| {
                        page(&Page {
                            address,
                            content,
                            file: Some((path, offset + (address - start))),
                        })
                    })?;
                }
                continue;
            }
            let mut at = start;
            while at < end {
                let (runs, next) = tables
                    .dumped(at, end)
                    .map_err(|errno| Error::io("list the pages of", &self.file, errno))?;
                for (from, to) in runs {
                    copy(&memory, from, to, &mut buffer, |address, content| {
                        page(&Page {
                            address,
                            content,
                            file: None,
                        })
                    })?;
                }
                at = next;
            }
        }
        Ok(())
    }
}

/// A file in a process's directory.
fn open(directory: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    Ok(File::from(openat(directory, name, flags, Mode::empty())?))
}

/// Inode of a process's pid namespace.
fn namespace(directory: &File) -> io::Result<u64> {
    Ok(fstatat(directory, "ns/pid", AtFlags::empty())?.st_ino)
}

/// The pid in the innermost namespace, from /proc/PID/status.
fn inner_pid(status: &str) -> Option<i32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Reads a run of pages.
fn copy(
    memory: &File,
    from: u64,
    to: u64,
    buffer: &mut [u8],
    mut page: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = from;
    while at < to {
        let length = buffer.len().min((to - at) as usize);
        // What cannot be read is not mapped any more, or never can be.
        let count = memory.read_at(&mut buffer[..length], at).unwrap_or(0);
        let whole = count - count % PAGE;
        for content in buffer[..whole].chunks_exact(PAGE) {
            page(at, content)?;
            at += PAGE as u64;
        }
        if whole == 0 {
            at += PAGE as u64;
        }
    }
    Ok(())
}

struct Tables {
    /// /proc/PID/pagemap.
    pagemap: File,
}

type Runs = Vec<(u64, u64)>;

impl Tables {
    /// Runs of pages that hold content of their own, and where to look next. An address space that
    /// is gone has none.
    fn dumped(&self, start: u64, end: u64) -> nix::Result<(Runs, u64)> {
        match scan(&self.pagemap, start, end) {
            Ok(found) => Ok(found),
            Err(Errno::ENOTTY | Errno::EINVAL) if end - start > LARGEST => Ok((Runs::new(), end)),
            // Before Linux 6.7.
            Err(Errno::ENOTTY | Errno::EINVAL) => Ok(self.entries(start, end)),
            Err(Errno::ESRCH | Errno::EFAULT | Errno::ENOMEM) => Ok((Runs::new(), end)),
            Err(errno) => Err(errno),
        }
    }

    /// The same from the entries themselves, 64 bits a page.
    fn entries(&self, start: u64, end: u64) -> (Runs, u64) {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE: u64 = 1 << 61;
        const GUARD: u64 = 1 << 58;
        let page = PAGE as u64;
        let end = end.min(start + 4096 * page);
        let mut bytes = vec![0; ((end - start) / page * 8) as usize];
        // Of an address space that is gone nothing can be read.
        let count = self
            .pagemap
            .read_at(&mut bytes, start / page * 8)
            .unwrap_or(0);
        let mut runs = Runs::new();
        let (entries, _) = bytes[..count].as_chunks::<8>();
        for (at, entry) in (start..end).step_by(PAGE).zip(entries) {
            let entry = u64::from_ne_bytes(*entry);
            if entry & (PRESENT | SWAPPED) == 0 || entry & (FILE | GUARD) != 0 {
                continue;
            }
            match runs.last_mut() {
                Some((_, to)) if *to == at => *to += page,
                _ => runs.push((at, at + page)),
            }
        }
        (runs, end)
    }
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

nix::ioctl_readwrite!(pagemap_scan, b'f', 16, ScanArgument);

/// PAGEMAP_SCAN (Documentation/admin-guide/mm/pagemap.rst): present or swapped, not of a file, not
/// the page of zeros.
fn scan(pagemap: &File, start: u64, end: u64) -> nix::Result<(Runs, u64)> {
    const FILE: u64 = 1 << 2;
    const PRESENT: u64 = 1 << 3;
    const SWAPPED: u64 = 1 << 4;
    const PFNZERO: u64 = 1 << 5;
    let mut regions = [Region::default(); RANGES];
    let mut argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        start,
        end,
        vec: regions.as_mut_ptr() as u64,
        vec_len: RANGES as u64,
        category_inverted: FILE | PFNZERO,
        category_mask: FILE | PFNZERO,
        category_anyof_mask: PRESENT | SWAPPED,
        ..ScanArgument::default()
    };
    // SAFETY: the argument has the layout the kernel expects and says so in `size`; `vec` points to
    // `vec_len` regions that outlive the call and are written by nobody else meanwhile.
    let count = unsafe { pagemap_scan(pagemap.as_raw_fd(), &raw mut argument) }?;
    let found = regions.iter().take(count as usize);
    let next = argument.walk_end.clamp(start, end);
    Ok((
        found.map(|region| (region.start, region.end)).collect(),
        // One that does not get on would never end.
        if next == start { end } else { next },
    ))
}

#[cfg(test)]
mod tests;

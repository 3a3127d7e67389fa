//! Extended attributes of any inode, through `/proc/self/fd` so that symlinks, fifos and device
//! nodes need not be opened (xattr(7), and proc(5) for the magic links).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::wire::XattrList;

/// Overlay attributes that stay on the source:
/// - `origin` is a file handle of the lower file on the source's own file system. Elsewhere it is
///   stale or, worse, names another file; overlay only uses it for stable inode numbers.
/// - `impure` says that a directory may hold entries with an origin, so it goes with them.
/// - `nlink` counts links relative to the lower file for the `index` feature, which needs origin.
/// - `uuid` is the identity of one overlay instance; two instances must not share it.
///
/// `opaque`, `redirect`, `metacopy` and escaped ones (`trusted.overlay.overlay.*`) are content.
const STAYS: [&[u8]; 4] = [
    b"trusted.overlay.origin",
    b"trusted.overlay.impure",
    b"trusted.overlay.nlink",
    b"trusted.overlay.uuid",
];

/// Labels the kernel does not let anybody remove; they are set but never removed.
const PERMANENT: [&[u8]; 2] = [b"security.selinux", b"security.SMACK64"];

/// All attributes that are carried, sorted by name.
pub(crate) fn read(fd: BorrowedFd<'_>) -> io::Result<XattrList> {
    let path = magic_path(fd)?;
    let mut list = XattrList::new();
    for name in names(&path)? {
        if STAYS.contains(&name.to_bytes()) {
            continue;
        }
        if let Some(value) = get(&path, &name)? {
            list.push((name.into_bytes(), value));
        }
    }
    list.sort_unstable();
    Ok(list)
}

/// Makes the attributes exactly `wanted`.
pub(crate) fn write(fd: BorrowedFd<'_>, wanted: &XattrList) -> io::Result<()> {
    let path = magic_path(fd)?;
    let present = names(&path)?;
    for name in &present {
        let bytes = name.to_bytes();
        let kept = wanted.iter().any(|(wanted, _)| wanted == bytes);
        if !kept && !PERMANENT.contains(&bytes) {
            remove(&path, name)?;
        }
    }
    for (name, value) in wanted {
        if STAYS.contains(&name.as_slice()) {
            continue;
        }
        let name = CString::new(name.as_slice()).map_err(io::Error::other)?;
        if !present.is_empty() && get(&path, &name)?.as_ref() == Some(value) {
            continue;
        }
        set(&path, &name, value)?;
    }
    Ok(())
}

fn magic_path(fd: BorrowedFd<'_>) -> io::Result<CString> {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(io::Error::other)
}

fn names(path: &CStr) -> io::Result<Vec<CString>> {
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        // SAFETY: the path is NUL-terminated and the buffer has the length that is passed.
        let size =
            unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
        match check(size) {
            Ok(Some(0) | None) => return Ok(Vec::new()),
            Ok(Some(size)) if size <= buffer.len() => {
                buffer.truncate(size);
                let names = buffer
                    .split(|byte| *byte == 0)
                    .filter(|name| !name.is_empty());
                return names
                    .map(|name| CString::new(name).map_err(io::Error::other))
                    .collect();
            }
            Ok(Some(size)) => buffer.resize(size, 0),
            // The list grew in between.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {
                let grown = (buffer.len() * 2).max(1024);
                buffer.resize(grown, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The value, or `None` when the attribute vanished.
fn get(path: &CStr, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 256];
    loop {
        // SAFETY: both strings are NUL-terminated and the buffer has the length that is passed.
        let size = unsafe {
            let (value, length) = (buffer.as_mut_ptr(), buffer.len());
            libc::getxattr(path.as_ptr(), name.as_ptr(), value.cast(), length)
        };
        match check(size) {
            Ok(Some(size)) => {
                buffer.truncate(size);
                return Ok(Some(buffer));
            }
            Ok(None) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && buffer.len() < 1 << 20 => {
                let grown = buffer.len() * 4;
                buffer.resize(grown, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

fn set(path: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated and the value has the length that is passed.
    let result = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(named(&io::Error::last_os_error(), name))
    }
}

fn remove(path: &CStr, name: &CStr) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated.
    let result = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODATA) => Ok(()),
        _ => Err(named(&error, name)),
    }
}

/// `None` stands for "no such attribute" and "this file system has none".
fn check(size: isize) -> io::Result<Option<usize>> {
    if let Ok(size) = usize::try_from(size) {
        return Ok(Some(size));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODATA | libc::EOPNOTSUPP) => Ok(None),
        _ => Err(error),
    }
}

fn named(error: &io::Error, name: &CStr) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", name.to_string_lossy()))
}

//! Small file operations that keep secrets: 0600 files, 0700 directories, atomic replacement.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::{Error, Result};

/// Makes `dir` and what is above it, 0700, and leaves an existing one as it is.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("cannot make directory", dir))
}

/// Writes everything of the file system that holds `path` to its disk (syncfs(2)).
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let file = File::open(path)?;
    // SAFETY: syncfs takes a descriptor, which `file` keeps open, and touches no memory.
    if unsafe { libc::syncfs(file.as_raw_fd()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether a mode lets nobody but the owner in.
pub fn private_mode(mode: u32) -> bool {
    const OTHERS: u32 = 0o077;
    mode & OTHERS == 0
}

/// Replaces `file` (0600) at one moment: readers see the old content or the new one. Makes the
/// directory where there is none.
pub fn write_private(file: &Path, content: &[u8]) -> Result<()> {
    write(file, content, 0o600)
}

/// The same for a file that everyone may read (0644).
pub fn write_public(file: &Path, content: &[u8]) -> Result<()> {
    write(file, content, 0o644)
}

/// Copies what is read to `to` (0600) at one moment. Makes the directory where there is none.
pub fn copy_private(from: &mut impl Read, to: &Path) -> Result<()> {
    let dir = to.parent().unwrap_or(Path::new("."));
    make_private_dir(dir)?;
    let mut name = to.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let staged = dir.join(name);
    let copied = (|| {
        stage(&staged, &[], 0o600)?;
        let mut target = OpenOptions::new().write(true).open(&staged)?;
        io::copy(from, &mut target)?;
        target.sync_all()?;
        fs::rename(&staged, to)?;
        File::open(dir)?.sync_all()
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&staged);
    }
    copied.map_err(Error::io("cannot copy to", to))
}

fn write(file: &Path, content: &[u8], mode: u32) -> Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    make_private_dir(dir)?;
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let staged = dir.join(name);
    let result = stage(&staged, content, mode)
        .and_then(|()| fs::rename(&staged, file))
        .and_then(|()| File::open(dir)?.sync_all());
    if result.is_err() {
        let _ = fs::remove_file(&staged);
    }
    result.map_err(Error::io("cannot write", file))
}

fn stage(staged: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(staged)?;
    // A file left by an earlier crash keeps its mode: set it before anything is in it.
    out.set_permissions(fs::Permissions::from_mode(mode))?;
    out.write_all(content)?;
    out.sync_all()
}

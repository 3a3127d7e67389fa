//! The `tar` that CRIU runs for the small tmpfs file systems of a container.
//!
//! CRIU archives what is in a tmpfs by `tar --gzip`, and unpacks it that way (`tmpfs_dump` and
//! `tmpfs_restore` in CRIU's criu/filesystems.c). A container has several of them: `/dev`, what masks
//! paths, and on cgroup v1 the directory of the hierarchies. Three processes for each, within the
//! freeze, take longer than to look at the few entries in them.
//!
//! So a program that calls [`run_if_called`] first is found as `tar` by the CRIU that it starts. It does
//! what it knows ([`create`], [`extract`]), in the same format; for everything else it becomes the
//! node's own `tar` before it has changed anything.

mod create;
mod extract;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use super::runtime;

/// The program's name for CRIU.
const NAME: &str = "tar";
/// The directory in `PATH` that has it.
const DIRECTORY: &str = "MYCEDRIVE_TAR_DIRECTORY";
/// What `tmpfs_dump` and `tmpfs_restore` ask for, of CRIU 4.2. What another one asks for differently is left to
/// the node's `tar`.
const CREATE: [&str; 11] = [
    "--create",
    "--gzip",
    "--no-unquote",
    "--no-wildcards",
    "--one-file-system",
    "--check-links",
    "--preserve-permissions",
    "--sparse",
    "--numeric-owner",
    "--directory",
    "/proc/self/fd/0",
];
const EXTRACT: [&str; 5] = [
    "--extract",
    "--gzip",
    "--no-unquote",
    "--no-wildcards",
    "--directory",
];

/// Most entries of an archive that is made or unpacked here.
const MOST_ENTRIES: usize = 1024;
/// Most bytes of all files in one.
const MOST_BYTES: u64 = 1 << 20;

/// Whether this program does the work of `tar` when it is called so.
static SERVES: AtomicBool = AtomicBool::new(false);

/// Does the work of `tar` if this program was called by that name; otherwise returns `None`, and from
/// now on CRIU finds this program by that name.
pub fn run_if_called() -> Option<ExitCode> {
    let mut arguments = env::args_os();
    let name = arguments.next();
    if name.as_deref() != Some(OsStr::new(NAME)) {
        SERVES.store(true, Ordering::Relaxed);
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    Some(match work(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Other(why)) => {
            // CRIU's log.
            eprintln!("mycedrive: the node's own tar takes this one: {why}");
            let error = become_the_other(&arguments);
            eprintln!("mycedrive: cannot run the node's own tar: {error}");
            ExitCode::FAILURE
        }
        Err(Failed::Io(error)) => {
            eprintln!("mycedrive: tar {arguments:?}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Why the work was not done.
#[derive(Debug)]
enum Failed {
    /// Nothing was written yet: another `tar` can do it.
    Other(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn work(arguments: &[OsString]) -> Result<(), Failed> {
    if let Some([last]) = after(arguments, &CREATE)
        && last == "."
    {
        let [from, to] = [standard(0), standard(1)];
        return create::archive(&from, &to);
    }
    if let Some([directory]) = after(arguments, &EXTRACT) {
        let mut from = &*standard(0);
        let start = from
            .stream_position()
            .map_err(|_| Failed::Other("the archive is not a file"))?;
        return extract::unpack(from, &File::open(directory)?).inspect_err(|failed| {
            if matches!(failed, Failed::Other(_)) {
                // An error shows in what the other one reads.
                let _ = from.seek(SeekFrom::Start(start));
            }
        });
    }
    Err(Failed::Other("it has other arguments"))
}

/// The arguments after these.
fn after<'a>(arguments: &'a [OsString], first: &[&str]) -> Option<&'a [OsString]> {
    let (start, rest) = arguments.split_at_checked(first.len())?;
    start.iter().eq(first.iter()).then_some(rest)
}

/// A standard stream, which stays open.
fn standard(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: standard streams are open, and are not closed by what is never dropped. If one is not,
    // its use is an error.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

/// Runs the `tar` that is found without our directory. Returns only if that fails.
fn become_the_other(arguments: &[OsString]) -> io::Error {
    let ours = env::var_os(DIRECTORY).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let others = env::split_paths(&path).filter(|entry| Some(entry) != ours.as_ref());
    match env::join_paths(others) {
        Ok(path) => Command::new(NAME)
            .args(arguments)
            .env("PATH", path)
            .env_remove(DIRECTORY)
            .exec(),
        Err(error) => io::Error::other(error),
    }
}

/// Lets the CRIU that the runtime starts find this program, if it can do the work, through a directory
/// in the container's bundle. It does without if that cannot be made.
pub(super) fn offer(command: &mut Command, bundle: &Path) {
    if !SERVES.load(Ordering::Relaxed) || !bundle.is_dir() {
        return;
    }
    match directory(bundle) {
        Ok((directory, path)) => {
            command.env("PATH", path).env(DIRECTORY, directory);
        }
        Err(error) => tracing::debug!(%error, bundle = %bundle.display(), "CRIU uses its own tar"),
    }
}

/// Makes the directory. Returns its path, and a `PATH` with it.
fn directory(bundle: &Path) -> io::Result<(PathBuf, OsString)> {
    let directory = bundle.join("criu-tools");
    runtime::private_directory(&directory).map_err(io::Error::other)?;
    // The very program that runs, also after another one was installed. CRIU's /proc is ours.
    let target = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let link = directory.join(NAME);
    if fs::read_link(&link).ok().as_ref() != Some(&target) {
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(&target, &link)?,
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let entries = [directory.clone()]
        .into_iter()
        .chain(env::split_paths(&path));
    let path = env::join_paths(entries).map_err(io::Error::other)?;
    Ok((directory, path))
}

#[cfg(test)]
mod tests;

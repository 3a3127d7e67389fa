//! Which CRIU is installed.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{EngineError, Runner};

/// Oldest version that restores a migrated pod on current kernels.
const WANTED: &str = "4.2";
const LIMIT: Duration = Duration::from_secs(10);

/// The installed version, if it is new enough.
pub(super) async fn installed(runner: &dyn Runner) -> Result<String, EngineError> {
    let missing = |source| EngineError::Missing {
        program: "criu",
        wanted: WANTED,
        source,
    };
    // A pipe would need a reader beside the runner; the answer is a line.
    let (answer, output) = memory_file().map_err(missing)?;
    let mut command = Command::new("criu");
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null());
    runner.run(command, LIMIT).await.map_err(missing)?;
    let text = fs::read_to_string(answer_path(&answer)).map_err(missing)?;
    new_enough(&text).ok_or_else(|| EngineError::TooOld {
        program: "criu",
        found: text.trim().to_owned(),
        wanted: WANTED,
    })
}

/// A file without a name, and the same as a command's output.
fn memory_file() -> io::Result<(fs::File, Stdio)> {
    let file =
        nix::sys::memfd::memfd_create(c"criu-version", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let file = fs::File::from(file);
    let output = file.try_clone()?.into();
    Ok((file, output))
}

/// A path that opens the file from its beginning.
fn answer_path(file: &fs::File) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The version in what `criu --version` prints, unless it is too old.
fn new_enough(text: &str) -> Option<String> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("Version:"))?
        .trim();
    (numbers(version)? >= numbers(WANTED)?).then(|| version.to_owned())
}

/// Major and minor.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;

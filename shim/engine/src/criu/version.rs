//! Which CRIU is installed.

use std::process::Command;
use std::time::Duration;

use crate::EngineError;
use crate::runner::{self, Runner};

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
    let mut command = Command::new("criu");
    command.arg("--version");
    let text = runner::output(runner, command, LIMIT)
        .await
        .map_err(missing)?;
    new_enough(&text).ok_or_else(|| EngineError::TooOld {
        program: "criu",
        found: text.trim().to_owned(),
        wanted: WANTED,
    })
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

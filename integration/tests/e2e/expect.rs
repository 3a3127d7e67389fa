//! Checks that say what they saw.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use mycedrive_integration::{ContainerState, Node, RunningPod};

/// Both sides are equal.
#[allow(clippy::needless_pass_by_value, reason = "calls are easier to read")]
pub fn equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<()> {
    ensure!(
        found == expected,
        "{what}: found {found:?}, expected {expected:?}"
    );
    Ok(())
}

/// A text has all these parts.
pub fn contains(what: &str, text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{what}: `{part}` is not in `{text}`");
    }
    Ok(())
}

/// A call failed; answers with its message.
pub fn failure<T: Debug, E: ToString>(what: &str, result: Result<T, E>) -> Result<String> {
    match result {
        Ok(value) => bail!("{what} was expected to fail and answered {value:?}"),
        Err(error) => Ok(error.to_string()),
    }
}

/// Waits up to `seconds` for a condition.
pub fn soon(what: &str, seconds: u64, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while !condition()? {
        ensure!(Instant::now() < until, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A container's state according to CRI.
pub fn state(node: &Node, pod: &RunningPod, container: &str) -> Result<ContainerState> {
    Ok(node.cri()?.container_status(pod.id(container))?.state())
}

/// Waits until a container has ended; answers with its exit code.
pub fn exit_code(node: &Node, pod: &RunningPod, container: &str) -> Result<i32> {
    soon(&format!("the end of {container}"), 10, || {
        Ok(state(node, pod, container)? == ContainerState::ContainerExited)
    })?;
    Ok(node.cri()?.container_status(pod.id(container))?.exit_code)
}

/// A command in a container ends with 0; answers with what it printed, without space at the ends.
pub fn exec(node: &Node, pod: &RunningPod, container: &str, command: &[&str]) -> Result<String> {
    let done = node.exec_in(pod, container, command)?;
    ensure!(
        done.code == 0,
        "{command:?} in {container} ended with {}: {}{}",
        done.code,
        done.stdout,
        done.stderr
    );
    Ok(done.stdout.trim().to_owned())
}

//! Finding the reason of a failure in the logs of CRIU and of the OCI runtime.

use std::fs;
use std::path::Path;

/// Error lines that are shown. The first ones are nearest to the cause.
const SHOWN: usize = 4;
/// Longest text that is shown, in bytes.
const LONGEST: usize = 2000;

/// What went wrong: CRIU's error lines, else the runtime's messages, else the exit code.
pub(super) fn cause(criu: &Path, runtime: &Path, exit_code: i32) -> String {
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    criu_errors(&read(criu))
        .or_else(|| runtime_errors(&read(runtime)))
        .unwrap_or_else(|| format!("the runtime ended with code {exit_code} and gave no reason"))
}

/// What went wrong in the runtime: its messages, else the exit code.
pub(crate) fn runtime_cause(runtime: &Path, exit_code: i32) -> String {
    cause(Path::new("/dev/null"), runtime, exit_code)
}

/// The lines like `(00.012)     41: Error (criu/sk-inet.c:188): inet: ...`, without the time and
/// the process in front.
fn criu_errors(log: &str) -> Option<String> {
    let errors: Vec<&str> = log
        .lines()
        .filter_map(|line| line.find("Error (").map(|start| line[start..].trim_end()))
        .take(SHOWN)
        .collect();
    joined(&errors)
}

/// The `msg` of lines of level error or fatal, in logrus's JSON form.
fn runtime_errors(log: &str) -> Option<String> {
    let messages: Vec<String> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|entry| matches!(entry["level"].as_str(), Some("error" | "fatal")))
        .filter_map(|entry| Some(entry["msg"].as_str()?.to_owned()))
        .collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).take(SHOWN).collect();
    joined(&messages)
}

fn joined(lines: &[&str]) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    let mut text = lines.join("; ");
    if text.len() > LONGEST {
        let mut end = LONGEST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    Some(text)
}

#[cfg(test)]
mod tests;

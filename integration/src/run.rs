//! Runs commands and keeps what they print.

use std::process::{Command, Stdio};

use crate::{Error, Result};

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + the signal's number if a signal ended it, as in a shell.
    pub code: i32,
    /// Standard output, lossy UTF-8.
    pub stdout: String,
    /// Standard error, lossy UTF-8.
    pub stderr: String,
    command: String,
}

impl Output {
    /// Did it end with 0?
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Standard output without the space at its ends; an error if the command failed.
    pub fn ok(self) -> Result<String> {
        if self.success() {
            return Ok(self.stdout.trim().to_owned());
        }
        let all = format!("{}\n{}", self.stdout.trim(), self.stderr.trim());
        Err(Error::Command {
            command: self.command,
            status: format!("exit code {}", self.code),
            output: last_lines(all.trim(), 15).to_owned(),
        })
    }
}

/// Runs a command to its end, without standard input.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command.args(args);
    capture(&mut command)
}

/// Runs a prepared command to its end, without standard input.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let text = text_of(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Spawn {
            command: text.clone(),
            source,
        })?;
    Ok(Output {
        code: code_of(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: text,
    })
}

/// The exit code as a shell would give it.
pub(crate) fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> &str {
    let start = text
        .rmatch_indices('\n')
        .nth(count.saturating_sub(1))
        .map_or(0, |(at, _)| at + 1);
    text.get(start..).unwrap_or(text)
}

fn text_of(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests;

//! Command lines as cargo's aliases hand them over.

use std::ffi::OsString;

/// This program's arguments, without the `--` that parts them from those of cargo: `cargo demo --json F`
/// and `cargo demo -- --json F` are the same.
#[must_use]
pub fn arguments() -> Vec<OsString> {
    without_separator(std::env::args_os().collect())
}

fn without_separator(mut all: Vec<OsString>) -> Vec<OsString> {
    // The first is the program. An alias ends in one `--`, which cargo takes; a second one is the user's.
    if all.get(1).is_some_and(|argument| argument == "--") {
        all.remove(1);
    }
    all
}

#[cfg(test)]
mod tests;

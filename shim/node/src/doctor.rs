//! `mycedrive doctor`: is this node able to move pods, and if not, what to do.

mod containerd;
mod daemon;
mod kernel;
mod keys;
mod programs;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde::Serialize;

use crate::config::Config;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, or may work; look at it.
    Warn,
    /// Pods cannot move.
    Fail,
}

/// One line of the doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty when ok.
    pub advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Warn,
            found: found.into(),
            advice: advice.into(),
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Fail,
            ..Self::warn(name, found, advice)
        }
    }
}

/// Looks at everything. Changes nothing.
pub async fn run(config: &Config) -> Vec<Check> {
    let mut checks = vec![root()];
    checks.extend(kernel::checks());
    checks.extend(programs::checks(config).await);
    checks.extend(keys::checks(config));
    checks.extend(containerd::checks(config).await);
    checks.extend(daemon::checks(config).await);
    checks
}

fn root() -> Check {
    if nix::unistd::geteuid().is_root() {
        Check::ok("user", "root")
    } else {
        Check::fail(
            "user",
            "not root",
            "run it as root; other lines may be wrong",
        )
    }
}

/// For people.
pub fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let state = match check.state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let _ = writeln!(text, "{state}  {}: {}", check.name, check.found);
        if !check.advice.is_empty() {
            let _ = writeln!(text, "      -> {}", check.advice);
        }
    }
    text
}

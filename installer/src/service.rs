//! What has to be restarted before a change counts.

use std::process::Command;

use crate::containerd::Distribution;
use crate::error::{Error, Result};
use crate::root::Root;

const UNIT_DIRS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The commands that make a change count, in order. Restarting containerd (or
/// k3s, RKE2, k0s) leaves running pods alone.
pub fn commands(
    root: &Root,
    distributions: &[Distribution],
    runtime_changed: bool,
    installing: bool,
) -> Vec<String> {
    let mut commands = vec!["systemctl daemon-reload".to_owned()];
    if runtime_changed {
        for distribution in distributions {
            let units = distribution.units();
            let here: Vec<&str> = units
                .iter()
                .copied()
                .filter(|unit| has_unit(root, unit))
                .collect();
            let unit = here.first().or(units.first()).copied();
            commands.extend(unit.map(|unit| format!("systemctl restart {unit}")));
        }
    }
    if installing {
        commands.push("systemctl restart mycedrive.service".to_owned());
    }
    commands
}

fn has_unit(root: &Root, unit: &str) -> bool {
    UNIT_DIRS
        .iter()
        .any(|dir| root.is_file(&format!("{dir}/{unit}")))
}

/// Runs the commands on the live node.
pub fn run(root: &Root, commands: &[String]) -> Result<()> {
    if !root.is_live() {
        return Err(Error::Usage(
            "--restart is for the running node; it cannot be combined with --root".to_owned(),
        ));
    }
    for command in commands {
        let failed = |problem: String| Error::Command {
            command: command.clone(),
            problem,
        };
        let mut words = command.split(' ');
        let status = Command::new(words.next().unwrap_or("systemctl"))
            .args(words)
            .status()
            .map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            return Err(failed(status.to_string()));
        }
    }
    Ok(())
}

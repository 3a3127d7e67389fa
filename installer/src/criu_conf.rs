//! `/etc/criu/runc.conf`, which runc hands to CRIU.
//!
//! MyceDrive's own checkpoints bring their own CRIU configuration; this file
//! is for checkpoints that `runc` makes by itself, for example after a
//! restore by another runtime. Settings that somebody already made win.

/// Path of the file (runc's `libcontainer/criu_linux.go`).
pub const PATH: &str = "/etc/criu/runc.conf";

const MARK: &str = "# Added by mycedrive-installer.\n";

/// Option and value. `network-lock nftables` takes a tenth of a second off each
/// dump and each restore; `ghost-limit` is for deleted files that are open.
const SETTINGS: [(&str, &str); 2] = [("network-lock", "nftables"), ("ghost-limit", "64M")];

/// The file with what it lacks appended; `None` if it lacks nothing.
pub fn merge(existing: Option<&str>) -> Option<String> {
    let text = existing.unwrap_or_default();
    let missing: Vec<String> = SETTINGS
        .iter()
        .filter(|(option, _)| !text.lines().any(|line| sets(line, option)))
        .map(|(option, value)| format!("{option} {value}\n"))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let gap = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!("{text}{gap}{MARK}{}", missing.concat()))
}

/// CRIU's format: an option without its dashes, then blanks or `=`.
fn sets(line: &str, option: &str) -> bool {
    let line = line.trim_start().trim_start_matches("--");
    line.strip_prefix(option)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['=', ' ', '\t']))
}

#[cfg(test)]
mod tests;

//! Programs that the shim runs.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::Check;
use super::kernel::parse_version;
use crate::config::Config;

const LIMIT: Duration = Duration::from_secs(10);
/// Where programs may be when PATH is short (a systemd unit's is).
const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// All checks of programs.
pub async fn checks(config: &Config) -> Vec<Check> {
    vec![
        criu().await,
        criu_check().await,
        dmtcp(config).await,
        runc().await,
        shim(),
    ]
}

/// The second engine, which a node need not have.
async fn dmtcp(config: &Config) -> Check {
    const NAME: &str = "dmtcp";
    let version = crate::machine::dmtcp_version(config).await;
    if let Some(prefix) = config.dmtcp_prefix().filter(|_| version.is_empty()) {
        return Check::fail(
            NAME,
            format!("not in {}", prefix.display()),
            "install DMTCP there, or correct dmtcp_prefix in config.toml",
        );
    }
    if version.is_empty() {
        return Check::ok(NAME, "not installed; containers are carried by CRIU alone");
    }
    match parse_version(&version) {
        Some(number) if number >= (4, 1) => Check::ok(NAME, version),
        _ => Check::warn(
            NAME,
            format!("{version} is too old, and is not used"),
            "install DMTCP 4.1.1 or newer in /opt/dmtcp, or none",
        ),
    }
}

async fn criu() -> Check {
    const NAME: &str = "criu";
    const ADVICE: &str = "install CRIU 4.2 or newer";
    match output("criu", &["--version"]).await {
        Err(error) => Check::fail(NAME, error, ADVICE),
        Ok(text) => {
            let version = after(&text, "Version:");
            match parse_version(version) {
                Some(number) if number >= (4, 2) => Check::ok(NAME, version),
                _ => Check::fail(NAME, format!("{version} is too old"), ADVICE),
            }
        }
    }
}

async fn criu_check() -> Check {
    const NAME: &str = "criu check";
    match output("criu", &["check"]).await {
        Ok(text) if text.contains("Looks good") => Check::ok(NAME, "looks good"),
        Ok(text) | Err(text) => Check::warn(
            NAME,
            last_line(&text),
            "`criu check` says what the kernel or the daemon's rights lack; some programs may not \
             move",
        ),
    }
}

async fn runc() -> Check {
    const NAME: &str = "runc";
    const ADVICE: &str = "install runc 1.2 or newer: older ones know no time namespaces";
    match output("runc", &["--version"]).await {
        Err(error) => Check::fail(NAME, error, ADVICE),
        Ok(text) => {
            let version = after(&text, "runc version");
            match parse_version(version) {
                Some(number) if number >= (1, 2) => Check::ok(NAME, version),
                _ => Check::fail(NAME, format!("{version} is too old"), ADVICE),
            }
        }
    }
}

fn after<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .map_or("", str::trim)
}

fn shim() -> Check {
    const NAME: &str = "shim";
    let program = "containerd-shim-mycedrive-v2";
    match find(program) {
        Some(path) => Check::ok(NAME, path.display().to_string()),
        None => Check::fail(
            NAME,
            format!("{program} is not in PATH"),
            "install it to /usr/local/bin: containerd looks for it in its PATH",
        ),
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FOLDERS.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Output and error output of a program; an error says why there is none.
async fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let path = find(program).ok_or_else(|| format!("{program} is not installed"))?;
    let mut command = Command::new(path);
    command.args(arguments).kill_on_drop(true);
    let output = timeout(LIMIT, command.output())
        .await
        .map_err(|_| format!("{program} does not end within {} s", LIMIT.as_secs()))?
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

fn last_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("no output")
        .to_owned()
}

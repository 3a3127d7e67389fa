//! The daemon: does it run, can others reach it, are its folders as they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tokio::net::UnixStream;

use super::Check;
use crate::config::Config;
use crate::peers::Peers;
use crate::units::show_bytes;
use crate::{files, kubernetes};

/// Warn when less is free for images.
const ROOM: u64 = 256 << 20;

/// All checks of the daemon.
pub async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let socket = config.node_socket();
    match UnixStream::connect(&socket).await {
        Ok(_) => {
            checks.push(Check::ok(
                "daemon",
                format!("answers on {}", socket.display()),
            ));
            checks.push(reachable(config).await);
        }
        Err(error) => checks.push(Check::fail(
            "daemon",
            format!("{}: {error}", socket.display()),
            "systemctl start mycedrive (or `mycedrive serve`)",
        )),
    }
    for dir in [
        &config.run_dir,
        &config.image_dir,
        &config.journal_dir,
        &config.migrations_dir(),
    ] {
        checks.extend(private(dir));
    }
    checks.extend(images(&config.image_dir));
    checks.extend(journal(&config.journal_dir));
    checks.push(events(config).await);
    checks
}

/// Whether events can be written on pods, as far as dialling the API server tells.
async fn events(config: &Config) -> Check {
    const NAME: &str = "events";
    let Some(file) = kubernetes::file(&config.kubernetes) else {
        return Check::ok(
            NAME,
            "none are written on pods: no credentials of a kubelet",
        );
    };
    match kubernetes::dial(&file).await {
        Ok(server) => Check::ok(NAME, format!("{server} answers, as {}", file.display())),
        Err(error) => Check::warn(
            NAME,
            error.to_string(),
            "set kubeconfig in [kubernetes] of config.toml; pods move without it",
        ),
    }
}

/// Dials this node as another one would: port, keys and names in one.
async fn reachable(config: &Config) -> Check {
    let peers = Peers::new(config.pki_dir.clone(), config.migration.dial_timeout);
    match peers.dial(&config.advertise).await {
        Ok(_) => Check::ok("reachable", format!("{} with TLS 1.3", config.advertise)),
        Err(error) => Check::fail(
            "reachable",
            error.to_string(),
            "others dial `advertise`: set it, and the certificate's addresses, to fit",
        ),
    }
}

fn private(dir: &Path) -> Option<Check> {
    let mode = fs::metadata(dir).ok()?.permissions().mode() & 0o7777;
    Some(if files::private_mode(mode) {
        Check::ok("folder", format!("{} is private", dir.display()))
    } else {
        Check::fail(
            "folder",
            format!("{} has mode {mode:o}", dir.display()),
            format!("chmod 700 {}", dir.display()),
        )
    })
}

fn images(dir: &Path) -> Option<Check> {
    let stat = statfs(dir).ok()?;
    let free = stat.blocks_available() * u64::try_from(stat.block_size()).ok()?;
    let found = format!("{}: {} free", dir.display(), show_bytes(free));
    Some(if stat.filesystem_type() != TMPFS_MAGIC {
        Check::warn(
            "images",
            format!("{} is not on a tmpfs", dir.display()),
            "memory images are secrets: put image_dir on a tmpfs, or on an encrypted disk",
        )
    } else if free < ROOM {
        Check::warn(
            "images",
            found,
            "a pod's memory must fit: mount the tmpfs with a bigger size=, or set image_dir",
        )
    } else {
        Check::ok("images", found)
    })
}

fn journal(dir: &Path) -> Option<Check> {
    let on_tmpfs = statfs(dir).ok()?.filesystem_type() == TMPFS_MAGIC;
    Some(if on_tmpfs {
        Check::fail(
            "journal",
            format!("{} is on a tmpfs", dir.display()),
            "set journal_dir to a disk: a reboot would forget which node runs a pod",
        )
    } else {
        Check::ok("journal", format!("{} is on a disk", dir.display()))
    })
}

//! Where memory images are by default.

use std::path::Path;

use anyhow::{Result, ensure};
use mycedrive_integration::{Node, Testbed};

use crate::expect;
use crate::world::{Scenario, Skip, need_daemon, three};

const PLACE: &str = "/run/mycedrive/images";

pub fn all() -> Vec<Scenario> {
    vec![Scenario::new("memory::own_tmpfs", own_tmpfs)]
}

/// How the place's mounts are made: a line for each.
fn mounts(node: &Node) -> Result<String> {
    Ok(node.sh(&format!("awk '$2 == \"{PLACE}\"' /proc/mounts"))?)
}

/// Kills the daemon and waits until the next one answers.
fn again(node: &Node) -> Result<()> {
    node.kill_service("mycedrive")?;
    expect::soon("a daemon", 20, || Ok(node.sh("mycedrive ps").is_ok()))
}

fn own_tmpfs(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    if !Path::new("/sys/kernel/mm/transparent_hugepage/shmem_enabled").exists() {
        return Err(Skip("this kernel has no large folios in a tmpfs".to_owned()).into());
    }
    let (node, _, _) = three(testbed)?;
    let own = mounts(node)?;
    ensure!(own.lines().count() == 1, "{own}");
    let wanted = ["mycedrive-images", "huge=within_size", "mode=700", "nosuid"];
    expect::contains("the mount", &own, &wanted)?;
    again(node)?;
    ensure!(
        mounts(node)? == own,
        "after another start: {}",
        mounts(node)?
    );

    // What is in the plain folder is not hidden.
    node.sh(&format!("umount {PLACE} && mkdir {PLACE}/kept"))?;
    again(node)?;
    let found = mounts(node)?;
    node.sh(&format!("rm -rf {PLACE}/kept"))?;
    ensure!(
        found.is_empty(),
        "over a folder with something in it: {found}"
    );
    again(node)?;
    ensure!(mounts(node)? == own, "in the end: {}", mounts(node)?);
    Ok(())
}

//! A dump that was started before the freeze, and waits for it; a restore that waits for its image.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::{Node, Testbed};

use super::moment;
use super::outcome::{Outcome, end_client, settled};
use crate::expect;
use crate::world::{Scenario, three};

const ONCE: Duration = Duration::ZERO;
/// As CRIU calls itself (proc title).
const CRIU: &str = "^criu: dump";

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("faults::waiting::pod_runs_meanwhile", pod_runs_meanwhile),
        Scenario::new("faults::waiting::criu_is_killed", criu_is_killed),
        Scenario::new("faults::waiting::shim_is_killed", shim_is_killed),
        Scenario::new("faults::waiting::freeze_fails", freeze_fails),
        Scenario::new("faults::waiting::restore", restore),
        Scenario::new("faults::waiting::restore_is_killed", restore_is_killed),
        Scenario::new("faults::waiting::restores_runtime", restores_runtime),
        Scenario::new("faults::waiting::restore_and_runtime", restore_and_runtime),
        Scenario::new("faults::waiting::restores_shim", restores_shim),
        Scenario::new("faults::waiting::image_does_not_come", image_does_not_come),
    ]
}

fn waits(node: &Node) -> bool {
    node.sh(&format!("pgrep -f '{CRIU}'")).is_ok()
}

fn ends(node: &Node) -> Result<()> {
    expect::soon("the end of CRIU", 5, || Ok(!waits(node)))
}

fn pod_runs_meanwhile(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let (.., outside) = three(testbed)?;
    let point = FaultPoint::ShimSourceBeforeLock;
    let arrived = moment::at(&before, before.a, point, ONCE, || {
        ensure!(waits(before.a), "no CRIU waits");
        let ping = format!("redis-cli -h {} ping", before.source.ip);
        expect::equal("answer", outside.sh(&ping)?.as_str(), "PONG")
    })?
    .ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    expect::equal("completed", outcome, Outcome::Completed)?;
    ends(before.a)?;
    end_client(before.client, true)
}

/// Another one is started in the freeze.
fn criu_is_killed(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let point = FaultPoint::ShimSourceBeforeDump;
    let arrived = moment::at(&before, before.a, point, ONCE, || {
        before.a.sh(&format!("pkill -KILL -f '{CRIU}'"))?;
        ends(before.a)
    })?
    .ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    expect::equal("completed", outcome, Outcome::Completed)?;
    end_client(before.client, true)
}

/// CRIU ends with it, and has dumped nothing.
fn shim_is_killed(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let point = FaultPoint::ShimSourceBeforeLock;
    let arrived = moment::at(&before, before.a, point, ONCE, || {
        ensure!(waits(before.a), "no CRIU waits");
        before
            .a
            .sh("pkill -KILL -f '^[^ ]*containerd-shim-mycedrive-v2 '")?;
        ends(before.a)?;
        let images = before
            .a
            .sh("find /run/mycedrive/images -name 'core-*.img'")?;
        ensure!(images.is_empty(), "CRIU dumped: {images}");
        Ok(())
    })?
    .ok();
    ensure!(arrived.is_none(), "the pod arrived");
    end_client(before.client, false)
}

fn freeze_fails(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    before
        .a
        .arm_fault(FaultPoint::ShimSourceAfterLock.name(), "error")?;
    let arriving = before.pod.migrate_from(&before.a.address());
    let failed = before.b.run_pod_within(&arriving, ONCE);
    before.a.disarm_faults()?;
    ensure!(failed.is_err(), "the freeze did not fail");
    ends(before.a)?;
    let outcome = settled(testbed, &before, None)?;
    expect::equal("rolled back", outcome, Outcome::RolledBack)?;
    end_client(before.client, true)
}

const RESTORE: &str = "^criu: restore";
/// The source has dumped, and does not know it yet: the image is not whole at the destination.
const DUMPED: FaultPoint = FaultPoint::ShimSourceAfterDump;

fn restore_waits(node: &Node) -> Result<()> {
    let waits = || Ok(node.sh(&format!("pgrep -f '{RESTORE}'")).is_ok());
    expect::soon("a restore that waits", 5, waits)?;
    ensure!(
        node.sh("pgrep redis-server").is_err(),
        "it has made a process"
    );
    Ok(())
}

/// Nothing of a restore that has begun is left.
fn restore_is_gone(node: &Node) -> Result<()> {
    let gone = || Ok(node.sh(&format!("pgrep -f '{RESTORE}'")).is_err());
    expect::soon("the end of the restore", 5, gone)?;
    let left = || {
        let mounts = "grep criu-root /proc/self/mountinfo";
        let folders = "ls -d /run/mycedrive/images/*.gate";
        Ok(node.sh(mounts).is_err() && node.sh(folders).is_err())
    };
    // The daemon waits for a while for a shim that does not answer.
    expect::soon("nothing of the restore", 20, left)
}

fn restore(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let arrived = moment::at(&before, before.a, DUMPED, ONCE, || restore_waits(before.b))?.ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    expect::equal("completed", outcome, Outcome::Completed)?;
    restore_is_gone(before.b)?;
    end_client(before.client, true)
}

/// The runtime of a restore.
const RUNTIME: &str = "^[^ ]*runc .* restore ";

/// What of the restore is killed while it waits; another one is started when the image is there.
fn killed(testbed: &Testbed, pattern: &str) -> Result<()> {
    let before = moment::before(testbed)?;
    let arrived = moment::at(&before, before.a, DUMPED, ONCE, || {
        restore_waits(before.b)?;
        before.b.sh(&format!("pkill -KILL -f '{pattern}'"))?;
        let runtime = || Ok(before.b.sh(&format!("pgrep -f '{RUNTIME}'")).is_err());
        expect::soon("the end of the runtime", 5, runtime)
    })?
    .ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    expect::equal("completed", outcome, Outcome::Completed)?;
    restore_is_gone(before.b)?;
    end_client(before.client, true)
}

fn restore_is_killed(testbed: &Testbed) -> Result<()> {
    killed(testbed, RESTORE)
}

/// What it had mounted is not looked into when it is cleaned up.
fn restores_runtime(testbed: &Testbed) -> Result<()> {
    killed(testbed, RUNTIME)
}

/// None of the two cleans up after the other.
fn restore_and_runtime(testbed: &Testbed) -> Result<()> {
    killed(testbed, &format!("({RESTORE}|{RUNTIME})"))
}

/// The restore ends with it; the source goes on.
fn restores_shim(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let arrived = moment::at(&before, before.a, DUMPED, ONCE, || {
        restore_waits(before.b)?;
        before
            .b
            .sh("pkill -KILL -f '^[^ ]*containerd-shim-mycedrive-v2 '")?;
        Ok(())
    })?
    .ok();
    ensure!(arrived.is_none(), "the pod arrived");
    let outcome = settled(testbed, &before, None)?;
    expect::equal("rolled back", outcome, Outcome::RolledBack)?;
    restore_is_gone(before.b)?;
    end_client(before.client, true)
}

/// The dump fails; the next attempt arrives.
fn image_does_not_come(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    before.a.arm_fault(DUMPED.name(), "error")?;
    let arriving = before.pod.migrate_from(&before.a.address());
    let failed = before.b.run_pod_within(&arriving, ONCE);
    before.a.disarm_faults()?;
    ensure!(failed.is_err(), "the dump did not fail");
    restore_is_gone(before.b)?;
    let arrived = before.b.run_pod(&arriving)?;
    let outcome = settled(testbed, &before, Some(&arrived))?;
    expect::equal("completed", outcome, Outcome::Completed)?;
    end_client(before.client, true)
}

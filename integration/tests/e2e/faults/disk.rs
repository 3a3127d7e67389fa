//! Disks that are full, and images that are damaged on the way or on the disk.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Node, Testbed};

use super::moment::{self, Before};
use super::outcome::{Outcome, end_client, settled};
use crate::expect;
use crate::world::Scenario;

const ONCE: Duration = Duration::ZERO;
/// Folder of the memory images.
const IMAGES: &str = "/run/mycedrive/images";
const MEGABYTES: u64 = 16;

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("faults::disk::full_on_b_before_the_freeze", |testbed| {
            full_before(testbed, "b")
        }),
        Scenario::new("faults::disk::full_on_a_before_the_freeze", |testbed| {
            full_before(testbed, "a")
        }),
        Scenario::new("faults::disk::full_on_b_in_the_freeze", |testbed| {
            full_in_the_freeze(testbed, "b")
        }),
        Scenario::new("faults::disk::full_on_a_in_the_freeze", |testbed| {
            full_in_the_freeze(testbed, "a")
        }),
        Scenario::new("faults::disk::image_damaged_on_b", image_damaged_on_b),
    ]
}

/// A small file system of its own for the images, as long as this lives.
struct Small<'a>(&'a Node);

impl<'a> Small<'a> {
    fn mount(node: &'a Node, megabytes: u64) -> Result<Self> {
        node.sh(&format!(
            "mkdir -p {IMAGES}; mount -t tmpfs -o mode=0700,size={megabytes}m small {IMAGES}"
        ))?;
        Ok(Self(node))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        // Lazily: an image may still be open.
        let _ = self.0.sh(&format!("umount -l {IMAGES}"));
    }
}

/// Refused before anything was touched; the reason says which node lacks how much.
fn full_before(testbed: &Testbed, on: &str) -> Result<()> {
    let before = moment::before(testbed)?;
    let _small = Small::mount(testbed.node(on)?, 4)?;
    let arriving = before.pod.migrate_from(&before.a.address());
    let message = expect::failure("the migration", before.b.run_pod_within(&arriving, ONCE))?;
    expect::contains("reason", &message, &["MiB free", IMAGES])?;
    ended_on_a(testbed, before)
}

/// There was room when it was asked for, and there is none when it is needed.
fn full_in_the_freeze(testbed: &Testbed, on: &str) -> Result<()> {
    let before = moment::before(testbed)?;
    redis::fill(before.a, &before.source, MEGABYTES)?;
    let node = testbed.node(on)?;
    let _small = Small::mount(node, 256)?;
    let arrived = moment::at(
        &before,
        before.b,
        FaultPoint::DestinationBeforeFreeze,
        ONCE,
        || {
            node.sh(&format!(
                "head -c 1G /dev/zero >{IMAGES}/filler 2>/dev/null || true"
            ))?;
            Ok(())
        },
    )?;
    let message = expect::failure("the migration", arrived)?;
    ensure!(
        message.to_lowercase().contains("no space left"),
        "the reason is not said: {message}"
    );
    ended_on_a(testbed, before)
}

/// The image on B is not what was sent when CRIU reads it: the restore fails, and A goes on.
fn image_damaged_on_b(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let b = before.b;
    let arrived = moment::at(
        &before,
        b,
        FaultPoint::ShimDestinationBeforeRestore,
        ONCE,
        || {
            b.sh(&format!(
                "for f in {IMAGES}/*/redis/core-*.img {IMAGES}/*/redis/inventory.img; do \
                 [ ! -f $f ] || printf damaged | dd of=$f conv=notrunc bs=1 seek=4 2>/dev/null; done"
            ))?;
            Ok(())
        },
    )?;
    let message = expect::failure("the migration", arrived)?;
    ensure!(!message.is_empty(), "no reason");
    ended_on_a(testbed, before)
}

fn ended_on_a(testbed: &Testbed, before: Before<'_>) -> Result<()> {
    let outcome = settled(testbed, &before, None)?;
    expect::equal("outcome", outcome, Outcome::RolledBack)?;
    end_client(before.client, true)
}

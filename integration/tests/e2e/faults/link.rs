//! The link between the nodes is cut.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::{RunningPod, Testbed};

use super::moment::{self, Before};
use super::outcome::{Outcome, answers, end_client, settled};
use crate::expect;
use crate::world::Scenario;

/// kubelet on B tries once.
const ONCE: Duration = Duration::ZERO;

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (point, up) in [
        (FaultPoint::DestinationAfterCopy, false),
        (FaultPoint::DestinationAfterCopy, true),
        (FaultPoint::SourceDuringImages, false),
        (FaultPoint::SourceDuringImages, true),
        (FaultPoint::DestinationAfterVerify, false),
        (FaultPoint::DestinationAfterVerify, true),
    ] {
        let how = if up { "and_up_again" } else { "for_long" };
        all.push(Scenario::new(
            format!("faults::link::{}_{how}", point.name()),
            move |testbed| before_the_offer(testbed, point, up),
        ));
    }
    all.push(Scenario::new("faults::link::after_the_offer", |testbed| {
        after_the_offer(testbed)
    }));
    all.push(Scenario::new(
        "faults::link::after_run_and_up_again",
        after_run_and_up_again,
    ));
    all.push(Scenario::new(
        "faults::link::held_is_resolved",
        held_is_resolved,
    ));
    all
}

/// How long the cut lasts when the link comes up again.
const SHORT: Duration = Duration::from_secs(2);

/// Nothing was offered: the pod goes on on A, or arrives when the link comes up again.
fn before_the_offer(testbed: &Testbed, point: FaultPoint, up: bool) -> Result<()> {
    let before = moment::before(testbed)?;
    let side = if point.name().starts_with("source") {
        before.a
    } else {
        before.b
    };
    let arrived = moment::at(&before, side, point, ONCE, || {
        before.b.set_link(false)?;
        if up {
            std::thread::sleep(SHORT);
            before.b.set_link(true)?;
        }
        Ok(())
    })?
    .ok();
    if !up {
        // A has thawed the pod although it cannot ask B.
        expect::soon("the pod on A", 60, || {
            Ok(answers(before.a, Some(&before.source)))
        })?;
        before.b.set_link(true)?;
    }
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    if !up {
        expect::equal("outcome", outcome, Outcome::RolledBack)?;
    }
    end_client(before.client, true)
}

/// Cuts the link at a point of B's and connects it again. A is frozen meanwhile.
fn frozen_while_cut(
    before: &Before<'_>,
    point: FaultPoint,
) -> Result<mycedrive_integration::Result<RunningPod>> {
    let arrived = moment::at(before, before.b, point, ONCE, || {
        before.b.set_link(false)?;
        std::thread::sleep(SHORT);
        expect::equal(
            "an answer on A",
            answers(before.a, Some(&before.source)),
            false,
        )
    })?;
    before.b.set_link(true)?;
    Ok(arrived)
}

/// Cut after the offer, before `RUN`: A is frozen until the link is up again; then both agree.
fn after_the_offer(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let arrived = frozen_while_cut(&before, FaultPoint::DestinationAfterOffer)?.ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    expect::equal("outcome", outcome, Outcome::Completed)?;
    end_client(before.client, true)
}

/// `RUN` is durable on B and A cannot hear it: B is the pod, A stays frozen, and gives its copy up
/// when the link is up again.
fn after_run_and_up_again(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let arrived = frozen_while_cut(&before, FaultPoint::DestinationBeforeConclude)?
        .context("the pod runs on B whatever A knows")?;
    let outcome = settled(testbed, &before, Some(&arrived))?;
    expect::equal("outcome", outcome, Outcome::Completed)?;
    expect::soon("the end of Redis on A", 20, || {
        Ok(before.a.sh("pgrep -x redis-server | wc -l")? == "0")
    })?;
    end_client(before.client, true)
}

/// B is cut off for good after the offer: a person knows that it does not run there, and A goes on.
/// B, when it is back, does not run what was decided; it may ask for the pod anew.
fn held_is_resolved(testbed: &Testbed) -> Result<()> {
    let before = moment::before(testbed)?;
    let (a, b) = (before.a, before.b);
    let point = FaultPoint::DestinationBeforeRunRecorded;
    b.arm_fault(point.name(), "kill")?;
    a.arm_fault(FaultPoint::SourceAfterOfferRecorded.name(), "pause")?;
    let arriving = before.pod.migrate_from(&a.address());
    let (id, arrived) = std::thread::scope(|scope| -> Result<_> {
        let start = scope.spawn(|| b.run_pod_within(&arriving, ONCE));
        expect::soon("the offer", 30, || {
            Ok(a.fault_reached(FaultPoint::SourceAfterOfferRecorded.name()))
        })?;
        a.disarm_faults()?;
        expect::soon("the end of B's daemon", 20, || {
            Ok(!b.fault_armed(point.name()))
        })?;
        b.stop_service("mycedrive")?;
        b.set_link(false)?;
        let id = mycedrive_integration::workload::migrations::newest(a)?.id;
        expect::equal("an answer on A", answers(a, Some(&before.source)), false)?;
        a.sh(&format!("mycedrive resolve {id} --run-here"))?;
        expect::soon("the pod on A", 10, || Ok(answers(a, Some(&before.source))))?;
        b.set_link(true)?;
        b.start_service("mycedrive")?;
        Ok((id, start.join().ok().and_then(Result::ok)))
    })?;
    std::thread::sleep(SHORT);
    match settled(testbed, &before, arrived.as_ref())? {
        Outcome::RolledBack => expect::equal(
            "processes of Redis on B",
            b.sh("pgrep -x redis-server | wc -l")?.as_str(),
            "0",
        )?,
        Outcome::Completed => {
            let newest = mycedrive_integration::workload::migrations::newest(b)?.id;
            ensure!(
                newest != id,
                "B ran the pod of a migration that A had ended"
            );
        }
        other => bail!("outcome: {other}"),
    }
    end_client(before.client, true)
}

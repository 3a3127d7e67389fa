//! The fault matrix: daemon or shim dies at every numbered step, on either side, under each engine.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::{Node, Testbed, dmtcp};

use super::moment;
use super::outcome::{Outcome, end_client, settled};
use super::table;
use crate::engine::need;
use crate::expect;
use crate::world::{Scenario, Skip, three};

/// How long kubelet on B tries while the fault is worked off.
const TRY: Duration = Duration::from_secs(15);
/// Seconds within which a point is passed after the arrival.
const LATE: u64 = 3;
/// Runs all of the shims' points. They take longer: containerd notices, and cleans up.
pub const SHIMS: &str = "MYCEDRIVE_SHIM_FAULTS";

/// The shims' points that always run: one of each outcome, on both sides.
const USUAL: &[FaultPoint] = &[
    FaultPoint::ShimSourceAfterLock,
    FaultPoint::ShimSourceAfterFreeze,
    FaultPoint::ShimSourceDuringDiscard,
    FaultPoint::ShimDestinationAfterRestore,
    FaultPoint::ShimDestinationBeforeRun,
];

pub fn all() -> Vec<Scenario> {
    let mut scenarios = of_engine("kill", Engine::Criu);
    if dmtcp().is_some() {
        scenarios.extend(of_engine("kill_dmtcp", Engine::Dmtcp));
    } else {
        // As one: each of them would have the testbed put right first.
        scenarios.push(Scenario::new("faults::kill_dmtcp", |testbed| {
            need(three(testbed)?.0, "dmtcp")
        }));
    }
    for engine in [Engine::Criu, Engine::Dmtcp] {
        scenarios.push(Scenario::new(
            format!("faults::table::{engine}"),
            move |_| table::check_document(engine),
        ));
    }
    scenarios
}

fn of_engine(group: &str, engine: Engine) -> Vec<Scenario> {
    let one = |point: &'static FaultPoint| {
        Scenario::new(
            format!("faults::{group}::{}", point.name()),
            move |testbed| kill_at(testbed, engine, *point),
        )
    };
    points(engine).map(one).collect()
}

/// The points that a migration can pass.
pub fn points(engine: Engine) -> impl Iterator<Item = &'static FaultPoint> {
    let only_of_criu = [
        FaultPoint::ShimDestinationDuringBegin,
        FaultPoint::ShimDestinationAfterBegin,
    ];
    let passed = move |point: &&FaultPoint| engine == Engine::Criu || !only_of_criu.contains(point);
    FaultPoint::ALL.iter().filter(passed)
}

/// What carries the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    Criu,
    Dmtcp,
}

impl fmt::Display for Engine {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Criu => "criu",
            Self::Dmtcp => "dmtcp",
        })
    }
}

/// Whether a shim passes the point.
pub fn of_shim(point: FaultPoint) -> bool {
    point.name().starts_with("shim-")
}

fn kill_at(testbed: &Testbed, engine: Engine, point: FaultPoint) -> Result<()> {
    if of_shim(point) && !USUAL.contains(&point) && std::env::var_os(SHIMS).is_none() {
        return Err(Skip(format!("a shim's point; set {SHIMS}=1 to run it")).into());
    }
    let before = match engine {
        Engine::Criu => moment::before(testbed)?,
        Engine::Dmtcp => moment::before_under_dmtcp(testbed)?,
    };
    let (a, b) = (before.a, before.b);
    let side = if point.name().contains("source") {
        a
    } else {
        b
    };
    side.arm_fault(point.name(), "kill")?;
    if undoes(point) {
        // Something else must have gone wrong before.
        b.arm_fault(FaultPoint::DestinationAfterRestore.name(), "error-once")?;
    }
    let arrived = b.run_pod_within(&before.pod.migrate_from(&a.address()), TRY);
    // The last points come after the pod's start on B.
    let reached = expect::soon("the point", LATE, || Ok(!side.fault_armed(point.name()))).is_ok();
    testbed.workers().try_for_each(Node::disarm_faults)?;
    if !reached {
        ensure!(
            arrived.is_ok(),
            "the point was not reached and the migration failed: {arrived:?}"
        );
        return Err(
            Skip("a migration without other faults does not pass this point".to_owned()).into(),
        );
    }
    let arrived = arrived.ok();
    let outcome = settled(testbed, &before, arrived.as_ref())?;
    let expected = expected(engine, point);
    ensure!(
        expected.contains(&outcome),
        "{outcome}, expected one of {expected:?}"
    );
    // The processes that serve the client are the shim's that died.
    let disturbed = of_shim(point) && (side.name() == a.name() || outcome != Outcome::RolledBack);
    if outcome != Outcome::Ended {
        end_client(before.client, !disturbed)?;
    }
    table::enter(engine, point, outcome)?;
    print!("{outcome} ");
    Ok(())
}

/// Steps that only a migration that fails takes.
fn undoes(point: FaultPoint) -> bool {
    ["resume", "abort", "undo"]
        .iter()
        .any(|word| point.name().contains(word))
}

/// What may come of a death at this point.
fn expected(engine: Engine, point: FaultPoint) -> &'static [Outcome] {
    use FaultPoint as P;
    use Outcome::{Completed, Ended, Held, RolledBack};
    match point {
        // The processes run here or run again: those of a dead shim are ended, as under runc.
        P::ShimSourceBeforeLock | P::ShimSourceAfterLock | P::ShimSourceAfterResume => &[Ended],
        // Only its shim can have a pod under DMTCP dumped.
        P::ShimSourceAfterFreeze | P::ShimSourceBeforeDump if engine == Engine::Dmtcp => &[Ended],
        // Frozen: parked by the daemon, and fetched by kubelet's next attempt on B.
        point if of_shim(point) && point.name().contains("source") => &[Completed],
        // It ran there: a person decides between what the source has and nothing.
        P::ShimDestinationDuringRun | P::ShimDestinationAfterRun => &[Held],
        point if of_shim(point) => &[RolledBack],
        // kubelet's next attempt may have brought it over.
        _ => &[Completed, RolledBack],
    }
}

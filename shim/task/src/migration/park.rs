//! `mycedrive.io/on-terminate: park`: a pod that is terminated becomes an image on this node.
//!
//! kubelet sends every container its stop signal. Those signals wait here; when all containers
//! have got one the whole pod is being terminated, and the node daemon is asked to park it. The
//! containers then end as their signals would have ended them. If only some are stopped (a failed
//! probe restarts one container), or the pod cannot be parked, the signals are delivered. SIGKILL
//! is never waited with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::state::{Migration, SourceStage};
use super::{Migrator, daemon};
use crate::container::Container;
use crate::error::{Error, Result};
use crate::pod::Pod;
use crate::spec::{Spec, annotation};
use crate::state::State;

/// The only value of the annotation.
const PARK: &str = "park";
/// kubelet stops a pod's containers at one time; within this all have got their signal.
const TOGETHER: Duration = Duration::from_secs(1);
/// Signals that programs take for other things than to end.
const NO_END: [u32; 5] = [
    0,
    libc::SIGHUP as u32,
    libc::SIGUSR1 as u32,
    libc::SIGUSR2 as u32,
    libc::SIGKILL as u32,
];

/// Refuses a value of the annotation that does not exist.
pub fn check(spec: &Spec) -> Result<()> {
    match spec.annotation(annotation::ON_TERMINATE) {
        None | Some(PARK) => Ok(()),
        Some(other) => Err(Error::Invalid(format!(
            "annotation {}: {other:?} is not allowed: it must be {PARK:?}",
            annotation::ON_TERMINATE
        ))),
    }
}

/// Takes a stop signal of a container in a pod that is to be parked. False: deliver it.
pub fn takes(pod: &Arc<Pod>, container: &Container, signal: u32) -> bool {
    let wanted = pod
        .facts()
        .is_some_and(|facts| facts.annotations.contains_key(annotation::ON_TERMINATE));
    if !wanted
        || container.is_sandbox
        || container.init.state() != State::Running
        || NO_END.contains(&signal)
    {
        return false;
    }
    pod.migration.signals().insert(container.id.clone(), signal);
    let migrator = Migrator::of(pod);
    if migrator.all_stopped() {
        if !pod.migration.parking.swap(true, Ordering::SeqCst) {
            tokio::spawn(async move { migrator.park().await });
        }
    } else {
        tokio::spawn(async move {
            tokio::time::sleep(TOGETHER).await;
            if !migrator.pod.migration.parking.load(Ordering::SeqCst) {
                info!("only some containers are stopped: the pod is not parked");
                migrator.deliver_signals();
            }
        });
    }
    true
}

impl Migrator {
    /// Whether every container that runs has got a stop signal.
    fn all_stopped(&self) -> bool {
        let signals = self.pod.migration.signals();
        self.apps()
            .iter()
            .filter(|container| container.init.state() == State::Running)
            .all(|container| signals.contains_key(&container.id))
    }

    async fn park(&self) {
        let Some(facts) = self.pod.facts() else {
            return;
        };
        match daemon::park(&facts.sandbox_id).await {
            Ok(id) => info!(id, "parked"),
            Err(reason) => warn!(reason, "the pod is terminated without being parked"),
        }
        self.pod.migration.parking.store(false, Ordering::SeqCst);
        // Parked, they have ended. A pod that is still frozen gets them when it is thawed.
        let stands = matches!(
            &*self.state(),
            Migration::Source(source) if source.stage != SourceStage::Held
        );
        if !stands {
            self.deliver_signals();
        }
    }
}

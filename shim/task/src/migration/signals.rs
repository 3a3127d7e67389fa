//! Signals for containers whose processes stand still.
//!
//! A signal that a frozen process got would be delivered when the freeze ends, wherever that is;
//! one sent before the dump would even be in the image. So signals wait here until it is decided
//! where the pod runs: here, then they are delivered; elsewhere (or nowhere), then the container
//! ends as the signal would have ended it.

use std::sync::Arc;

use mycedrive_engine::freezer::{self, Freezer};
use tracing::info;

use super::state::Migration;
use super::{Migrator, blocking, leave};
use crate::container::Container;
use crate::error::Result;
use crate::pod::Pod;
use crate::state::{Exit, State};

const SIGKILL: u32 = libc::SIGKILL as u32;

/// Takes care of a signal for a container that stands still. Answers false when nothing special
/// is to be done.
pub async fn kill(pod: &Arc<Pod>, container: &Arc<Container>, signal: u32) -> Result<bool> {
    if container.init.state() != State::Frozen {
        return Ok(false);
    }
    if signal == 0 {
        return Ok(true);
    }
    let is_source = matches!(&*pod.migration.state(), Migration::Source(_));
    if is_source && signal == SIGKILL {
        // Somebody removes the pod. Every process has its SIGKILL before the group is thawed,
        // so none runs another instruction.
        let pid = container.init.pid();
        blocking(move || {
            let freezer = Freezer::of_process(pid)?;
            freezer.kill_all()?;
            Ok(freezer::thaw_all(&[freezer])?)
        })
        .await?;
        return Ok(true);
    }
    info!(id = %container.id, signal, "the signal waits for the end of the migration");
    pod.migration.signals().insert(container.id.clone(), signal);
    if !is_source {
        // Before RUN that aborts the migration.
        leave(pod, container, false);
    }
    Ok(true)
}

impl Migrator {
    /// The pod runs here: its containers get the signals that waited.
    pub(super) fn deliver_signals(&self) {
        for (container, signal) in self.take_signals() {
            if let Err(error) = container.init.signal(signal) {
                info!(%error, "a signal that waited reached nobody");
            }
        }
    }

    /// The pod does not run here: containers that got a signal have ended.
    pub(super) fn end_signalled(&self) {
        for (container, signal) in self.take_signals() {
            container.end(Exit::now(128 + signal));
        }
    }

    fn take_signals(&self) -> Vec<(Arc<Container>, u32)> {
        let signals = std::mem::take(&mut *self.pod.migration.signals());
        signals
            .into_iter()
            .filter_map(|(id, signal)| Some((self.pod.container(&id).ok()?, signal)))
            .collect()
    }
}

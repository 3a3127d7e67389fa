//! Whether a pod could leave now.

use std::sync::Arc;
use std::time::Duration;

use super::groups::members;
use super::still::wait_for_execs;
use super::{Migrator, blocking, target};
use crate::error::Result;
use crate::state::State;

/// How long a look waits for execs to end. A probe of kubelet's has ended by then; the freeze waits longer.
const EXEC_PATIENCE: Duration = Duration::from_millis(500);

impl Migrator {
    /// What stands in the way of a migration now, or of a checkpoint that leaves addresses and
    /// connections where they are (`stays`). Changes nothing.
    pub(super) async fn preflight(self: Arc<Self>, stays: bool) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if self.netns().is_none() && !stays {
            found.push(
                "the pod uses the host's network, whose addresses cannot move; set \
                 hostNetwork: false"
                    .to_owned(),
            );
        }
        let mut running = self.apps();
        running.retain(|container| container.init.state() == State::Running);
        let pod = members(&running);
        // Those that stay are named below.
        let _ = wait_for_execs(&running, EXEC_PATIENCE).await;
        for container in self.apps() {
            let name = &container.name;
            match container.init.state() {
                State::Running => {}
                State::Exited(_) | State::Deleted => continue,
                other => {
                    found.push(format!("container {name} is {}", other.name()));
                    continue;
                }
            }
            let execs = *container.running_execs().borrow();
            if execs > 0 {
                found.push(format!(
                    "container {name} has {execs} exec session(s), which cannot move; end them"
                ));
            }
            let engine = match container.engine() {
                Ok(engine) => engine,
                Err(error) => {
                    found.push(error.to_string());
                    continue;
                }
            };
            if let Err(error) = engine.capabilities().await {
                found.push(error.to_string());
            }
            let target = target(&container);
            let pid = container.init.pid();
            let pod = pod.clone();
            let here = blocking(move || {
                let mut found = engine.obstacles(&target, pid)?;
                found.extend(engine.shared_obstacles(&target, &pod)?);
                Ok(found)
            });
            found.extend(here.await?);
        }
        Ok(found)
    }
}

//! Memory that goes in rounds, before the freeze.

use mycedrive_engine::EngineKind;
use mycedrive_proto::shim::ContainerState;
use mycedrive_transfer::{Form, MemoryProcess};

use super::migration::{Migration, lock};
use super::subject::{Place, Subject};
use crate::app::Shared;
use crate::error::Result;
use crate::shims::app_containers;

/// The processes of the containers that the destination was authorised for. Of a pod that is parked
/// there are none.
pub async fn processes(app: &Shared, migration: &Migration) -> Result<Vec<MemoryProcess>> {
    let subject = Subject::of(app, migration).await?;
    if matches!(subject.place, Place::Parked(_)) {
        return Ok(Vec::new());
    }
    let authorised = lock(&migration.authorised).clone();
    let mut all = Vec::new();
    for (name, container) in app_containers(&subject.pod) {
        let running =
            container.state.enum_value_or_default() == ContainerState::CONTAINER_STATE_RUNNING;
        let form = match &container.engine {
            engine if engine == EngineKind::Criu.name() => Form::Criu,
            engine if engine == EngineKind::Dmtcp.name() => Form::Pages,
            _ => continue,
        };
        if !running || !authorised.contains(name) {
            continue;
        }
        match MemoryProcess::of_container(name, container.pid, form) {
            Ok(processes) => all.extend(processes),
            // The container has just ended. That shows elsewhere.
            Err(error) => tracing::debug!(container = name, %error, "no memory to send"),
        }
    }
    Ok(all)
}

//! The one call of containerd's Tasks service that the runtime interface does not offer: a
//! checkpoint of a container that is not paused for it.

use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::client::CALL_TIME;
use super::{Cri, tasks};
use crate::{Error, Result};

/// The namespace of what the runtime interface makes.
const NAMESPACE: &str = "k8s.io";

impl Cri {
    /// Takes a checkpoint into containerd's content store; digests of what is in it then. The
    /// container is not paused, and goes on.
    pub fn checkpoint_task(&self, container: &str) -> Result<Vec<String>> {
        let mut request = Request::new(tasks::CheckpointTaskRequest {
            container_id: container.to_owned(),
        });
        request.set_timeout(CALL_TIME);
        let namespace = MetadataValue::from_static(NAMESPACE);
        request
            .metadata_mut()
            .insert("containerd-namespace", namespace);
        let mut client = tasks::tasks_client::TasksClient::new(self.channel.clone());
        let answer = self.runtime.block_on(client.checkpoint(request));
        let failed = |status: Status| Error::Cri {
            call: "Tasks.Checkpoint",
            node: self.node.clone(),
            status: Box::new(status),
        };
        let descriptors = answer.map_err(failed)?.into_inner().descriptors;
        Ok(descriptors.into_iter().map(|one| one.digest).collect())
    }
}

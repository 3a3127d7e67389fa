//! What shims ask: service `mycedrive.node.v1.Node`.

use async_trait::async_trait;
use mycedrive_proto::node::{
    ArriveReply, ArriveRequest, LeaveReply, LeaveRequest, ParkReply, ParkRequest,
};
use mycedrive_proto::node_ttrpc::Node;
use ttrpc::r#async::TtrpcContext;

use crate::app::Shared;
use crate::{destination, source};

/// Passes shims' questions on.
#[derive(Debug)]
pub struct NodeService {
    app: Shared,
}

impl NodeService {
    /// On the daemon's context.
    pub fn new(app: Shared) -> Self {
        Self { app }
    }
}

#[async_trait]
impl Node for NodeService {
    async fn arrive(&self, _: &TtrpcContext, request: ArriveRequest) -> ttrpc::Result<ArriveReply> {
        let pod = format!("{}/{}", request.pod_namespace, request.pod_name);
        let container = request.container.name.clone();
        let result = destination::arrive(&self.app, request).await;
        match &result {
            Ok(reply) => {
                tracing::info!(%pod, container, outcome = ?reply.outcome, "arrive: {}", reply.message);
            }
            Err(error) => tracing::warn!(%pod, container, %error, "arrive"),
        }
        result.map_err(Into::into)
    }

    async fn leave(&self, _: &TtrpcContext, request: LeaveRequest) -> ttrpc::Result<LeaveReply> {
        tracing::debug!(
            sandbox = request.sandbox_id,
            container = request.container_name,
            pod_gone = request.pod_gone,
            "leave"
        );
        destination::leave(&self.app, request)
            .await
            .map_err(Into::into)
    }

    async fn park(&self, _: &TtrpcContext, request: ParkRequest) -> ttrpc::Result<ParkReply> {
        let (parked, message) = match source::park(&self.app, &request.sandbox_id).await {
            Ok(parked) => (true, parked.id),
            Err(error) => {
                tracing::warn!(sandbox = request.sandbox_id, %error, "not parked");
                (false, error.to_string())
            }
        };
        Ok(ParkReply {
            parked,
            message,
            ..ParkReply::default()
        })
    }
}

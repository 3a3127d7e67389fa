//! The side that a pod arrives on: serves [`Destination`] to sources, and shims' questions.

use mycedrive_proto::migration::{AskReply, AskRequest, destination_server::Destination};
use mycedrive_proto::node::{ArriveReply, ArriveRequest, LeaveReply, LeaveRequest};
use tonic::{Request, Response, Status};

use crate::app::Shared;
use crate::error::{Error, Result};
use crate::operator::Decide;

/// The gRPC service.
#[derive(Debug, Clone)]
pub struct DestinationService {
    #[allow(dead_code)]
    app: Shared,
}

impl DestinationService {
    /// A service on the daemon's context.
    pub fn new(app: Shared) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl Destination for DestinationService {
    async fn ask(&self, _: Request<AskRequest>) -> Result<Response<AskReply>, Status> {
        Err(Status::unimplemented("ask"))
    }
}

/// A container with the annotation starts: see `Node.Arrive` in node.proto.
pub async fn arrive(_app: &Shared, _request: ArriveRequest) -> Result<ArriveReply> {
    Err(Error::Refused("not implemented".to_owned()))
}

/// A container of a pod goes: see `Node.Leave` in node.proto. Also tells the source's side.
pub async fn leave(_app: &Shared, _request: LeaveRequest) -> Result<LeaveReply> {
    Ok(LeaveReply::default())
}

/// At start, before the servers answer: takes up what the journals say is unfinished. Long work
/// is spawned; an error stops the daemon.
pub async fn recover(_app: &Shared) -> Result<()> {
    Ok(())
}

/// An operator decides a held migration on the destination's side.
pub async fn resolve(_app: &Shared, id: &str, _decide: Decide) -> Result<String> {
    Err(Error::UnknownMigration(id.to_owned()))
}

/// An operator cancels a migration before RUN.
pub async fn cancel(_app: &Shared, id: &str, _reason: &str) -> Result<String> {
    Err(Error::UnknownMigration(id.to_owned()))
}

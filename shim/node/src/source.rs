//! The side that a pod leaves: serves [`Source`].

use std::pin::Pin;

use futures::Stream;
use mycedrive_proto::migration::{
    Block, ConcludeReply, ConcludeRequest, CopyRequest, FreezeRequest, Manifest, OfferReply,
    OfferRequest, OpenRequest, Packets, source_server::Source,
};
use tonic::{Request, Response, Status, Streaming};

use crate::app::Shared;
use crate::error::{Error, Result};
use crate::operator::Decide;

/// The gRPC service.
#[derive(Debug, Clone)]
pub struct SourceService {
    #[allow(dead_code)]
    app: Shared,
}

impl SourceService {
    /// A service on the daemon's context.
    pub fn new(app: Shared) -> Self {
        Self { app }
    }
}

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Source for SourceService {
    type CopyStream = Answers<Block>;
    type FreezeStream = Answers<Block>;
    type RelayStream = Answers<Packets>;

    async fn open(&self, _: Request<OpenRequest>) -> Result<Response<Manifest>, Status> {
        Err(Status::unimplemented("open"))
    }

    async fn copy(&self, _: Request<CopyRequest>) -> Result<Response<Self::CopyStream>, Status> {
        Err(Status::unimplemented("copy"))
    }

    async fn freeze(
        &self,
        _: Request<FreezeRequest>,
    ) -> Result<Response<Self::FreezeStream>, Status> {
        Err(Status::unimplemented("freeze"))
    }

    async fn offer(&self, _: Request<OfferRequest>) -> Result<Response<OfferReply>, Status> {
        Err(Status::unimplemented("offer"))
    }

    async fn conclude(
        &self,
        _: Request<ConcludeRequest>,
    ) -> Result<Response<ConcludeReply>, Status> {
        Err(Status::unimplemented("conclude"))
    }

    async fn relay(
        &self,
        _: Request<Streaming<Packets>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        Err(Status::unimplemented("relay"))
    }
}

/// At start, before the servers answer: takes up what the journals say is unfinished. Long work
/// is spawned; an error stops the daemon.
pub async fn recover(_app: &Shared) -> Result<()> {
    Ok(())
}

/// An operator decides a held migration on the source's side.
pub async fn resolve(_app: &Shared, id: &str, _decide: Decide) -> Result<String> {
    Err(Error::UnknownMigration(id.to_owned()))
}

/// An operator cancels a migration before the offer.
pub async fn cancel(_app: &Shared, id: &str, _reason: &str) -> Result<String> {
    Err(Error::UnknownMigration(id.to_owned()))
}

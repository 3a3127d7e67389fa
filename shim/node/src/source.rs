//! The side that a pod leaves: serves [`Source`].
//!
//! - `open`: authorise and describe.
//! - `rounds`: what is sent.
//! - `decide`: offer, decision, thaw or discard; `watch`: asks when nothing is heard.
//! - `park`: a pod becomes an image here; `left`: what a dead shim leaves frozen.
//! - `route`: packets of old connections.

mod decide;
mod left;
mod memory;
mod migration;
mod open;
mod park;
mod refusal;
mod rounds;
mod route;
mod subject;
mod table;
mod trees;
mod watch;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use mycedrive_handover::fault::FaultPoint;
use mycedrive_handover::journal;
use mycedrive_handover::source::{State, Step};
use mycedrive_proto::migration::{
    Block, ConcludeReply, ConcludeRequest, CopyRequest, FreezeRequest, Manifest, OfferReply,
    OfferRequest, OpenRequest, Packets, source_server::Source,
};
use mycedrive_proto::node::LeaveRequest;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use crate::app::Shared;
use crate::error::{Error, Result};
use crate::fault;
use crate::operator::Decide;
use crate::peers::PeerInfo;

pub use migration::{Details, Migration, lock};
pub use park::{on_request as park, recover as recover_parked};
use refusal::Refusal;
pub use table::Table;
pub use trees::{ROOTFS, Trees, ids_of, is_rootfs};

/// How long journals of migrations that are over are kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The gRPC service.
#[derive(Debug, Clone)]
pub struct SourceService {
    app: Shared,
}

impl SourceService {
    /// A service on the daemon's context.
    pub fn new(app: Shared) -> Self {
        Self { app }
    }

    /// The migration that a call names, when the caller opened it.
    fn find<T>(&self, request: &Request<T>, id: &str) -> Result<Arc<Migration>, Status> {
        let peer = PeerInfo::of(request)?;
        let migration = self
            .app
            .source
            .get(id)
            .ok_or_else(|| Refusal::Unknown(id.to_owned()))?;
        open::belongs(&migration, &peer)?;
        Ok(migration)
    }
}

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Source for SourceService {
    type CopyStream = Answers<Block>;
    type FreezeStream = Answers<Block>;
    type RelayStream = Answers<Packets>;

    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<Manifest>, Status> {
        let peer = PeerInfo::of(&request)?;
        let request = request.into_inner();
        let span = tracing::info_span!("open", migration = %request.migration_id);
        async {
            fault::hit(FaultPoint::SourceBeforeOpen).await?;
            let pod = format!("{}/{}", request.pod_namespace, request.pod_name);
            let manifest = open::open(&self.app, &peer, request).await;
            if let Err(status) = &manifest {
                tracing::warn!(%pod, peer = %peer.name, "refused: {}", status.message());
            }
            let manifest = manifest?;
            fault::hit(FaultPoint::SourceAfterOpenRecorded).await?;
            Ok(Response::new(manifest))
        }
        .instrument(span)
        .await
    }

    async fn copy(
        &self,
        request: Request<CopyRequest>,
    ) -> Result<Response<Self::CopyStream>, Status> {
        let migration = self.find(&request, &request.get_ref().migration_id)?;
        migration.touch();
        let blocks = rounds::copy(&self.app, &migration, request.into_inner()).await?;
        Ok(Response::new(Box::pin(blocks)))
    }

    async fn freeze(
        &self,
        request: Request<FreezeRequest>,
    ) -> Result<Response<Self::FreezeStream>, Status> {
        let migration = self.find(&request, &request.get_ref().migration_id)?;
        let blocks = rounds::freeze(&self.app, &migration, request.get_ref()).await?;
        Ok(Response::new(Box::pin(blocks)))
    }

    async fn offer(&self, request: Request<OfferRequest>) -> Result<Response<OfferReply>, Status> {
        let migration = self.find(&request, &request.get_ref().migration_id)?;
        decide::offer(&self.app, &migration, request.into_inner()).await?;
        Ok(Response::new(OfferReply {}))
    }

    async fn conclude(
        &self,
        request: Request<ConcludeRequest>,
    ) -> Result<Response<ConcludeReply>, Status> {
        let migration = self.find(&request, &request.get_ref().migration_id)?;
        decide::conclude(&self.app, &migration, request.into_inner()).await?;
        Ok(Response::new(ConcludeReply {}))
    }

    async fn relay(
        &self,
        request: Request<Streaming<Packets>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        route::serve(self, request).await
    }
}

/// A pod of this node goes: the temporary route ends with it.
pub async fn leave(app: &Shared, request: &LeaveRequest) {
    if request.pod_going {
        route::pod_going(app, &request.sandbox_id).await;
    }
    if !request.pod_gone {
        return;
    }
    route::pod_gone(app, &request.sandbox_id);
    for migration in app.source.open_of(&request.sandbox_id) {
        let app = app.clone();
        tokio::spawn(async move {
            let reason = "the source pod was deleted".to_owned();
            decide::failed(&app, &migration, reason).await;
        });
    }
}

/// At start, before the servers answer: takes up what the journals say is unfinished. Long work
/// is spawned; an error stops the daemon.
#[allow(clippy::unused_async)] // As the daemon's other entry points.
pub async fn recover(app: &Shared) -> Result<()> {
    let folder = migration::journal_folder(app);
    for name in journal::list(&folder).map_err(Error::of_journal)? {
        let Some((migration, actions)) = Migration::recover(app, &name)? else {
            continue;
        };
        if !migration.state().is_final() {
            tracing::info!(
                migration = %name,
                state = migration.state().name(),
                "taken up from the journal"
            );
        }
        app.source.insert(migration.clone());
        if matches!(migration.state(), State::Discarding | State::Done) {
            // The run directory may be a new one.
            decide::mark_moved(app, &migration)?;
        }
        decide::perform(app, &migration, actions);
    }
    journal::prune(&folder, KEPT, over)
        .map(drop)
        .map_err(Error::of_journal)
}

fn over(entries: &[migration::Entry]) -> bool {
    let last = entries.last().map(|entry| &entry.step);
    matches!(last, Some(Step::Done | Step::RolledBack { .. }))
}

/// An operator decides a held migration on the source's side.
#[allow(clippy::unused_async)] // As the daemon's other entry points.
pub async fn resolve(app: &Shared, id: &str, decide: Decide) -> Result<String> {
    let migration = app
        .source
        .get(id)
        .ok_or_else(|| Error::UnknownMigration(id.to_owned()))?;
    decide::resolve(app, &migration, decide)
}

/// An operator cancels a migration before the offer.
pub async fn cancel(app: &Shared, id: &str, reason: &str) -> Result<String> {
    let migration = app
        .source
        .get(id)
        .ok_or_else(|| Error::UnknownMigration(id.to_owned()))?;
    decide::failed(app, &migration, reason.to_owned()).await;
    Ok(format!(
        "migration {id}: {}",
        migration.handle.snapshot().phase.words()
    ))
}

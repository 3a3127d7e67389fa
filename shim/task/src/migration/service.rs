//! The ttrpc service of a pod's shim, for the node daemon. A thin adapter: the steps are in
//! [`super::source`] and [`super::destination`].

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mycedrive_proto::shim::{
    AbortRequest, AdoptRequest, BeginRestoreRequest, CheckpointVolumeReply,
    CheckpointVolumeRequest, DescribeReply, DescribeRequest, DiscardRequest, Done,
    DropRouteRequest, DumpReply, DumpRequest, FreezeReply, FreezeRequest, MigrationRequest,
    PreflightReply, PreflightRequest, RestoreReply, RestoreRequest, ResumeReply,
};
use mycedrive_proto::shim_ttrpc::{self, create_pod};
use ttrpc::asynchronous::TtrpcContext;

use super::state::Resumed;
use super::{Migrator, to_the_end};
use crate::pod::Pod;

/// The service for a ttrpc server.
#[allow(clippy::needless_pass_by_value)]
pub fn service(pod: Arc<Pod>) -> HashMap<String, ttrpc::asynchronous::Service> {
    create_pod(Arc::new(Service(Migrator::of(&pod))))
}

struct Service(Arc<Migrator>);

#[async_trait]
impl shim_ttrpc::Pod for Service {
    async fn describe(
        &self,
        _context: &TtrpcContext,
        _request: DescribeRequest,
    ) -> ttrpc::Result<DescribeReply> {
        Ok(self.0.describe().await?)
    }

    async fn checkpoint_volume(
        &self,
        _context: &TtrpcContext,
        request: CheckpointVolumeRequest,
    ) -> ttrpc::Result<CheckpointVolumeReply> {
        let checkpoint = self.0.clone().checkpoint_volume(
            request.container,
            request.destination,
            request.out.into(),
        );
        Ok(CheckpointVolumeReply {
            frozen_milliseconds: to_the_end(checkpoint).await?,
            ..CheckpointVolumeReply::default()
        })
    }

    async fn preflight(
        &self,
        _context: &TtrpcContext,
        request: PreflightRequest,
    ) -> ttrpc::Result<PreflightReply> {
        Ok(PreflightReply {
            obstacles: to_the_end(self.0.clone().preflight(request.stays)).await?,
            ..PreflightReply::default()
        })
    }

    async fn freeze(
        &self,
        _context: &TtrpcContext,
        request: FreezeRequest,
    ) -> ttrpc::Result<FreezeReply> {
        let images = (!request.image_dir.is_empty()).then(|| request.image_dir.into());
        let freeze = self
            .0
            .clone()
            .freeze(request.migration_id, request.keep_connections, images);
        Ok(FreezeReply {
            frozen_at_ns: to_the_end(freeze).await?,
            ..FreezeReply::default()
        })
    }

    async fn dump(
        &self,
        _context: &TtrpcContext,
        request: DumpRequest,
    ) -> ttrpc::Result<DumpReply> {
        let dump = self
            .0
            .clone()
            .dump(request.migration_id, request.image_dir.into());
        let dumped = to_the_end(dump).await?;
        Ok(DumpReply {
            containers: dumped.containers,
            milliseconds: dumped.milliseconds,
            ..DumpReply::default()
        })
    }

    async fn resume(
        &self,
        _context: &TtrpcContext,
        request: MigrationRequest,
    ) -> ttrpc::Result<ResumeReply> {
        let resumed = to_the_end(self.0.clone().resume(request.migration_id)).await?;
        Ok(match resumed {
            Resumed::Runs => ResumeReply::default(),
            Resumed::OnlyImage { why, frozen_at_ns } => ResumeReply {
                only_image: why,
                frozen_at_ns,
                ..ResumeReply::default()
            },
        })
    }

    async fn discard(
        &self,
        _context: &TtrpcContext,
        request: DiscardRequest,
    ) -> ttrpc::Result<Done> {
        let discard =
            self.0
                .clone()
                .discard(request.migration_id, request.destination, request.parked);
        to_the_end(discard).await?;
        Ok(Done::default())
    }

    async fn adopt(&self, _context: &TtrpcContext, request: AdoptRequest) -> ttrpc::Result<Done> {
        let mut routes = vec![request.addresses];
        routes.extend(request.earlier.into_iter().map(|earlier| earlier.addresses));
        let adopt = self
            .0
            .clone()
            .adopt(request.migration_id, routes, request.keep_connections);
        to_the_end(adopt).await?;
        Ok(Done::default())
    }

    async fn begin_restore(
        &self,
        _context: &TtrpcContext,
        request: BeginRestoreRequest,
    ) -> ttrpc::Result<Done> {
        let begin = self.0.clone().begin_restore(
            request.migration_id,
            request.image_dir.into(),
            request.container,
            request.streams,
        );
        to_the_end(begin).await?;
        Ok(Done::default())
    }

    async fn restore(
        &self,
        _context: &TtrpcContext,
        request: RestoreRequest,
    ) -> ttrpc::Result<RestoreReply> {
        let restore = self.0.clone().restore(
            request.migration_id,
            request.image_dir.into(),
            request.containers,
        );
        let (pids, milliseconds) = to_the_end(restore).await?;
        Ok(RestoreReply {
            pids: pids.into_iter().collect(),
            milliseconds,
            ..RestoreReply::default()
        })
    }

    async fn run(&self, _context: &TtrpcContext, request: MigrationRequest) -> ttrpc::Result<Done> {
        to_the_end(self.0.clone().run(request.migration_id)).await?;
        Ok(Done::default())
    }

    async fn abort(&self, _context: &TtrpcContext, request: AbortRequest) -> ttrpc::Result<Done> {
        let abort = self.0.clone().abort(request.migration_id, request.reason);
        to_the_end(abort).await?;
        Ok(Done::default())
    }

    async fn drop_route(
        &self,
        _context: &TtrpcContext,
        request: DropRouteRequest,
    ) -> ttrpc::Result<Done> {
        let number = usize::try_from(request.route).unwrap_or(usize::MAX);
        let (id, keep) = (request.migration_id, request.keep_addresses);
        to_the_end(self.0.clone().drop_route(id, number, keep)).await?;
        Ok(Done::default())
    }
}

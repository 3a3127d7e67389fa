//! Calls to one shim, with time-outs and errors that say which pod and which call.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use mycedrive_proto::shim::{
    AbortRequest, Addresses, AdoptRequest, BeginRestoreRequest, CheckpointVolumeRequest, Container,
    ContainerState, DescribeReply, DescribeRequest, DiscardRequest, DropRouteRequest, DumpReply,
    DumpRequest, FreezeReply, FreezeRequest, MigrationRequest, PreflightRequest, RestoreReply,
    RestoreRequest,
};
use mycedrive_proto::shim_ttrpc::PodClient;
use ttrpc::context;

use crate::error::{Error, Result};
use crate::units::show_millis;

/// A connected shim. Cheap to clone.
#[derive(Clone)]
pub struct Shim {
    sandbox: String,
    client: PodClient,
}

impl fmt::Debug for Shim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shim")
            .field("sandbox", &self.sandbox)
            .finish_non_exhaustive()
    }
}

/// What came of undoing a freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// The pod goes on.
    Runs,
    /// It cannot. Nothing was undone, and the images of its dump are the pod.
    OnlyImage {
        /// Why.
        why: String,
        /// When its processes stood still, nanoseconds since 1970.
        frozen_at_ns: u64,
    },
}

/// One call: `call!(self, timeout, "dump", dump, request)`.
macro_rules! call {
    ($self:ident, $limit:expr, $name:literal, $method:ident, $request:expr) => {{
        let started = Instant::now();
        let context = context::with_duration($limit);
        $self
            .client
            .$method(context, &$request)
            .await
            .map_err(|error| $self.failed($name, $limit, started, &error))
    }};
}

impl Shim {
    pub(super) fn new(sandbox: &str, client: PodClient) -> Self {
        Self {
            sandbox: sandbox.to_owned(),
            client,
        }
    }

    /// The sandbox's id.
    pub fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// What runs there. Changes nothing.
    pub async fn describe(&self) -> Result<DescribeReply> {
        call!(
            self,
            super::SHORT,
            "Describe",
            describe,
            DescribeRequest::new()
        )
    }

    /// What stands in the way of a migration, or with `stays` of a checkpoint without the pod's
    /// addresses and connections; empty when nothing does. Changes nothing.
    pub async fn preflight(&self, stays: bool) -> Result<Vec<String>> {
        let limit = Duration::from_secs(20);
        let request = PreflightRequest {
            stays,
            ..PreflightRequest::default()
        };
        call!(self, limit, "Preflight", preflight, request).map(|reply| reply.obstacles)
    }

    /// Copies the live upper of a volume into the empty directory `out` while the pod stands still;
    /// returns for how many milliseconds.
    pub async fn checkpoint_volume(
        &self,
        container: &str,
        destination: &str,
        out: &Path,
        limit: Duration,
    ) -> Result<u64> {
        let request = CheckpointVolumeRequest {
            container: container.to_owned(),
            destination: destination.to_owned(),
            out: out.display().to_string(),
            ..CheckpointVolumeRequest::default()
        };
        call!(self, limit, "CheckpointVolume", checkpoint_volume, request)
            .map(|reply| reply.frozen_milliseconds)
    }

    /// Source: lock the network, freeze every container at one moment. What writes images below
    /// `images` starts before.
    pub async fn freeze(
        &self,
        migration: &str,
        keep_connections: bool,
        images: &Path,
        limit: Duration,
    ) -> Result<FreezeReply> {
        let request = FreezeRequest {
            migration_id: migration.to_owned(),
            keep_connections,
            image_dir: images.display().to_string(),
            ..FreezeRequest::default()
        };
        call!(self, limit, "Freeze", freeze, request)
    }

    /// Source, frozen: images of the containers into `image_dir/NAME`.
    pub async fn dump(
        &self,
        migration: &str,
        image_dir: &Path,
        limit: Duration,
    ) -> Result<DumpReply> {
        let request = DumpRequest {
            migration_id: migration.to_owned(),
            image_dir: image_dir.display().to_string(),
            ..DumpRequest::default()
        };
        call!(self, limit, "Dump", dump, request)
    }

    /// Source: undo the freeze. Only when the destination can never run the pod.
    pub async fn resume(&self, migration: &str, limit: Duration) -> Result<Resumed> {
        let reply = call!(self, limit, "Resume", resume, of(migration))?;
        if reply.only_image.is_empty() {
            return Ok(Resumed::Runs);
        }
        Ok(Resumed::OnlyImage {
            why: reply.only_image,
            frozen_at_ns: reply.frozen_at_ns,
        })
    }

    /// Source: the destination runs the pod; the frozen processes vanish.
    pub async fn discard(&self, migration: &str, destination: &str, limit: Duration) -> Result<()> {
        let request = DiscardRequest {
            migration_id: migration.to_owned(),
            destination: destination.to_owned(),
            ..DiscardRequest::default()
        };
        call!(self, limit, "Discard", discard, request).map(drop)
    }

    /// The pod's image is parked on this node; the frozen processes vanish.
    pub async fn discard_parked(&self, id: &str, limit: Duration) -> Result<()> {
        let request = DiscardRequest {
            migration_id: id.to_owned(),
            parked: true,
            ..DiscardRequest::default()
        };
        call!(self, limit, "Discard", discard, request).map(drop)
    }

    /// Destination: lock the network, take the old addresses, by route.
    pub async fn adopt(
        &self,
        migration: &str,
        routes: &[Vec<String>],
        keep_connections: bool,
        limit: Duration,
    ) -> Result<()> {
        let request = AdoptRequest {
            migration_id: migration.to_owned(),
            addresses: routes.first().cloned().unwrap_or_default(),
            keep_connections,
            earlier: routes.iter().skip(1).map(|route| earlier(route)).collect(),
            ..AdoptRequest::default()
        };
        call!(self, limit, "Adopt", adopt, request).map(drop)
    }

    /// Destination: begin to restore a container of which only the image is still to come. `streams`
    /// are what its standard streams led to on the source.
    pub async fn begin_restore(
        &self,
        migration: &str,
        image_dir: &Path,
        (container, streams): (String, Vec<String>),
        limit: Duration,
    ) -> Result<()> {
        let request = BeginRestoreRequest {
            migration_id: migration.to_owned(),
            image_dir: image_dir.display().to_string(),
            container,
            streams,
            ..BeginRestoreRequest::default()
        };
        call!(self, limit, "BeginRestore", begin_restore, request).map(drop)
    }

    /// Destination: restore the containers, stopped.
    pub async fn restore(
        &self,
        migration: &str,
        image_dir: &Path,
        containers: &[String],
        limit: Duration,
    ) -> Result<RestoreReply> {
        let request = RestoreRequest {
            migration_id: migration.to_owned(),
            image_dir: image_dir.display().to_string(),
            containers: containers.to_vec(),
            ..RestoreRequest::default()
        };
        call!(self, limit, "Restore", restore, request)
    }

    /// Destination, after RUN is durable: let the processes go, open the network.
    pub async fn run(&self, migration: &str, limit: Duration) -> Result<()> {
        call!(self, limit, "Run", run, of(migration)).map(drop)
    }

    /// Destination, before RUN: kill what was restored.
    pub async fn abort(&self, migration: &str, reason: &str, limit: Duration) -> Result<()> {
        let request = AbortRequest {
            migration_id: migration.to_owned(),
            reason: reason.to_owned(),
            ..AbortRequest::default()
        };
        call!(self, limit, "Abort", abort, request).map(drop)
    }

    /// Destination: the addresses of this route are no longer needed.
    pub async fn drop_route(&self, migration: &str, route: usize, limit: Duration) -> Result<()> {
        self.end_route(migration, route, false, limit).await
    }

    /// Destination: the connections of this route end, its addresses stay for a moment.
    pub async fn end_connections(
        &self,
        migration: &str,
        route: usize,
        limit: Duration,
    ) -> Result<()> {
        self.end_route(migration, route, true, limit).await
    }

    async fn end_route(
        &self,
        migration: &str,
        route: usize,
        keep_addresses: bool,
        limit: Duration,
    ) -> Result<()> {
        let request = DropRouteRequest {
            migration_id: migration.to_owned(),
            route: route as u32,
            keep_addresses,
            ..DropRouteRequest::default()
        };
        call!(self, limit, "DropRoute", drop_route, request).map(drop)
    }

    fn failed(
        &self,
        call: &'static str,
        limit: Duration,
        started: Instant,
        error: &ttrpc::Error,
    ) -> Error {
        let message = match error {
            _ if started.elapsed() >= limit => {
                format!("no answer within {}", show_millis(limit.as_millis() as u64))
            }
            ttrpc::Error::RpcStatus(status) => status.message.clone(),
            other => other.to_string(),
        };
        Error::Shim {
            sandbox: self.sandbox.clone(),
            call,
            message,
        }
    }
}

fn earlier(addresses: &[String]) -> Addresses {
    Addresses {
        addresses: addresses.to_vec(),
        ..Addresses::default()
    }
}

fn of(migration: &str) -> MigrationRequest {
    MigrationRequest {
        migration_id: migration.to_owned(),
        ..MigrationRequest::default()
    }
}

/// Whether a container of the pod (not the sandbox) runs here.
pub fn runs(pod: &DescribeReply) -> bool {
    pod.containers.iter().any(|container| {
        !container.is_sandbox
            && container.state.enum_value_or_default() == ContainerState::CONTAINER_STATE_RUNNING
    })
}

/// The pod's containers by name, without the sandbox.
pub fn app_containers(pod: &DescribeReply) -> BTreeMap<&str, &Container> {
    pod.containers
        .iter()
        .filter(|container| !container.is_sandbox)
        .map(|container| (container.name.as_str(), container))
        .collect()
}

//! Packets of old connections, from the adoption of the old addresses to the end of the route.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use mycedrive_connection::PodNet;
use mycedrive_proto::migration::Packets;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::migration::Migration;
use super::source::Source;
use crate::app::Shared;
use crate::error::{Error, Result};
use crate::fault;
use crate::progress::Side;
use crate::relay::{self, Ended, Pump, Timing};
use mycedrive_handover::fault::FaultPoint;

/// Attaches to the pod's TUN, so that nothing is lost between Run and the relay. A failure costs
/// old connections, not the migration.
pub async fn attach(app: &Shared, migration: &Migration) {
    if !migration.details.keep_connections {
        return;
    }
    match pump(migration).await {
        Ok((_, pump)) => {
            app.relays
                .insert(&migration.details.id, Side::Destination, pump);
        }
        Err(error) => tracing::warn!(%error, "old connections will not be carried"),
    }
}

/// Lets go of the TUN.
pub fn detach(app: &Shared, migration: &Migration) {
    app.relays.remove(&migration.details.id, Side::Destination);
}

async fn pump(migration: &Migration) -> Result<(Arc<PodNet>, Pump)> {
    let net = net(&migration.details.netns)?;
    let pump = Pump::attach(net.clone()).await?;
    Ok((net, pump))
}

fn net(netns: &str) -> Result<Arc<PodNet>> {
    let net = PodNet::open(Path::new(netns)).map_err(|error| Error::Failed(error.to_string()))?;
    Ok(Arc::new(net))
}

/// Carries old connections until the route is needed no more, then drops the old addresses.
/// Says why it ended.
pub async fn carry(app: &Shared, migration: &Arc<Migration>) -> &'static str {
    let why = if migration.details.keep_connections {
        tokio::select! {
            () = app.stopping.cancelled() => return "the daemon stops",
            () = migration.pod_gone.cancelled() => "this pod is gone",
            why = follow(app, migration) => why,
        }
    } else {
        "connections were not kept"
    };
    detach(app, migration);
    if !migration.pod_gone.is_cancelled()
        && let Err(error) = drop_route(app, migration).await
    {
        tracing::warn!(%error, "cannot drop the old addresses");
    }
    why
}

async fn drop_route(app: &Shared, migration: &Migration) -> Result<()> {
    let shim = app.shims.connect(&migration.details.sandbox).await?;
    let limit = app.config.migration.step_timeout;
    shim.drop_route(&migration.details.id, limit).await
}

async fn follow(app: &Shared, migration: &Arc<Migration>) -> &'static str {
    let id = &migration.details.id;
    if fault::hit(FaultPoint::DestinationRelayStart).await.is_err() {
        return "an injected error";
    }
    let attached = match app.relays.get(id, Side::Destination) {
        Some(pump) => net(&migration.details.netns).map(|net| (net, pump)),
        None => pump(migration).await,
    };
    let (net, pump) = match attached {
        Ok(attached) => attached,
        Err(error) => {
            tracing::warn!(%error, "old connections are not carried");
            return "the pod's network cannot be reached";
        }
    };
    app.relays.insert(id, Side::Destination, pump.clone());
    let old: Vec<IpAddr> = migration
        .addresses()
        .iter()
        .filter_map(|address| address.split('/').next()?.parse().ok())
        .collect();
    let dial = |outgoing: ReceiverStream<Packets>| dial(app.clone(), migration.clone(), outgoing);
    let ended = relay::follow(&pump, net, &old, id, Timing::default(), dial).await;
    match ended {
        Ended::Closed => "the old pod is gone",
        Ended::Idle => "no old connection is left",
        Ended::Gone => "this pod is gone",
    }
}

async fn dial(
    app: Shared,
    migration: Arc<Migration>,
    outgoing: ReceiverStream<Packets>,
) -> Result<Streaming<Packets>, Status> {
    let mut source = Source::dial(&app, &migration).await?;
    Ok(source.client().relay(outgoing).await?.into_inner())
}

/// Nobody listens on the socket of the sandbox's shim.
pub fn shim_gone(app: &Shared, sandbox: &str) -> bool {
    let path = app.shims.dir().join(format!("{sandbox}.sock"));
    std::os::unix::net::UnixStream::connect(path).is_err()
}

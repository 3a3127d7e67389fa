//! Packets of old connections at the source: held during the freeze, given back after a
//! roll-back, carried to the destination after the handover.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use mycedrive_connection::{PodNet, Tun};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_handover::source::State;
use mycedrive_proto::migration::Packets;
use tonic::{Request, Response, Status, Streaming};

use super::migration::Migration;
use super::refusal::Refusal;
use super::{Answers, SourceService};
use crate::app::Shared;
use crate::error::{Error, Result};
use crate::fault;
use crate::relay::{self, Pump};

/// How long a pod's end waits for what the destination still sends. kubelet waits as well.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a destination that is connected has to hear that the route ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// Before the freeze: the TUN and its reader, so that packets which arrive during the freeze are
/// held. A failure costs a retransmission, not the migration.
pub async fn prepare(app: &Shared, migration: &Migration) {
    if !migration.details.keep_connections {
        return;
    }
    let addresses = addresses(migration);
    let prepared = async {
        let net = net(migration)?;
        let ours = net.clone();
        blocking(move || ours.prepare_source(&addresses)).await?;
        Pump::attach(net, Tun::Source).await
    };
    match prepared.await {
        Ok(pump) => {
            app.relays.insert(&migration.details.id, Tun::Source, pump);
        }
        Err(error) => tracing::warn!(%error, "packets will not be held during the freeze"),
    }
}

/// The pod was thawed here: it gets the packets that were held.
pub async fn give_back(app: &Shared, migration: &Migration) {
    let Some(pump) = app.relays.remove(&migration.details.id, Tun::Source) else {
        return;
    };
    let addresses = addresses(migration);
    let given = match net(migration) {
        Ok(net) => {
            // The shim did so when it had frozen; otherwise the TUN is still there.
            let ours = net.clone();
            if let Err(error) = blocking(move || ours.unlock_source(&addresses)).await {
                tracing::warn!(%error, "cannot undo the diversion of packets");
            }
            pump.give_back(net).await
        }
        Err(error) => Err(error),
    };
    match given {
        Ok(packets) => tracing::debug!(packets, "packets given back to the pod"),
        Err(error) => tracing::warn!(%error, "packets could not be given back to the pod"),
    }
}

/// The `Relay` call: the destination takes the old connections over.
pub async fn serve(
    service: &SourceService,
    request: Request<Streaming<Packets>>,
) -> Result<Response<Answers<Packets>>, Status> {
    let peer = crate::peers::PeerInfo::of(&request)?;
    let mut incoming = request.into_inner();
    let first = incoming
        .message()
        .await?
        .ok_or(Refusal::Malformed("the relay's first message"))?;
    let id = first.migration_id;
    let app = &service.app;
    let migration = app
        .source
        .get(&id)
        .ok_or_else(|| Refusal::Unknown(id.clone()))?;
    // A node to which the pod moved later was never heard of here.
    let may = first.hops > 0 && migration.details.relay_token.matches(&first.token);
    if !may {
        super::open::belongs(&migration, &peer)?;
    }
    fault::hit(FaultPoint::SourceRelayStart).await?;
    match migration.state() {
        State::Discarding | State::Done => {}
        other => {
            let text = format!("migration {id}: no relay: it is {}", other.name());
            return Err(Refusal::Order(text).into());
        }
    }
    let pump = match app.relays.get(&id, Tun::Source) {
        Some(pump) => pump,
        None => attach_again(app, &migration).await?,
    };
    let Some(session) = pump.admit(first.hops) else {
        let text = format!("migration {id}: no relay: the pod has moved on, its packets with it");
        return Err(Refusal::Order(text).into());
    };
    migration.handle.event("route", peer.name);
    let outgoing = relay::serve(session, &id, incoming);
    Ok(Response::new(outgoing.boxed()))
}

/// After a restart of the daemon, or a freeze without a TUN: the pod may still be there.
async fn attach_again(app: &Shared, migration: &Arc<Migration>) -> Result<Pump, Status> {
    let id = &migration.details.id;
    if !migration.details.keep_connections || !Path::new(&migration.details.netns).exists() {
        return Err(Refusal::Unknown(format!("{id} (the old pod is gone)")).into());
    }
    let pump = Pump::attach(net(migration)?, Tun::Source).await?;
    app.relays.insert(id, Tun::Source, pump.clone());
    end_with(app, migration);
    Ok(pump)
}

/// When the destination needs the route no more, new connections to the old address are refused
/// instead of vanishing.
pub fn end_with(app: &Shared, migration: &Arc<Migration>) {
    let Some(pump) = app.relays.get(&migration.details.id, Tun::Source) else {
        return;
    };
    let (app, migration) = (app.clone(), migration.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = pump.gone() => {}
            () = pump.peer_closed() => {
                let addresses = addresses(&migration);
                let unlocked = match net(&migration) {
                    Ok(net) => blocking(move || net.unlock_source(&addresses)).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = unlocked {
                    tracing::warn!(%error, "cannot undo the diversion of the old address");
                }
            }
        }
        app.relays.remove(&migration.details.id, Tun::Source);
        migration.handle.event("route-ended", String::new());
        migration.handle.save();
    });
}

/// The old pod is about to go, its network is still there: the node that has its connections ends
/// them, so that their peers hear of it.
pub async fn pod_going(app: &Shared, sandbox: &str) {
    let pumps = of_sandbox(app, sandbox);
    let all = pumps.iter().map(|(_, pump)| pump.farewell(LAST_WORDS));
    futures::future::join_all(all).await;
}

/// The old pod goes: so does the route.
pub fn pod_gone(app: &Shared, sandbox: &str) {
    for (migration, pump) in of_sandbox(app, sandbox) {
        pump.close();
        let app = app.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GOODBYE).await;
            app.relays.remove(&migration.details.id, Tun::Source);
        });
    }
}

fn of_sandbox(app: &Shared, sandbox: &str) -> Vec<(Arc<Migration>, Pump)> {
    let left = app.source.all().into_iter();
    left.filter(|migration| migration.details.sandbox == sandbox)
        .filter_map(|migration| {
            let pump = app.relays.get(&migration.details.id, Tun::Source)?;
            Some((migration, pump))
        })
        .collect()
}

fn addresses(migration: &Migration) -> Vec<IpAddr> {
    let all = migration.details.addresses.iter();
    all.filter_map(|address| address.split('/').next()?.parse().ok())
        .collect()
}

fn net(migration: &Migration) -> Result<Arc<PodNet>> {
    let net = PodNet::open(Path::new(&migration.details.netns))
        .map_err(|error| Error::Failed(error.to_string()))?;
    Ok(Arc::new(net))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> mycedrive_connection::Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Failed(error.to_string()))?
        .map_err(|error| Error::Failed(error.to_string()))
}

//! `mycedrive serve`: the node daemon.
//!
//! Start: one daemon per state folder (a lock), keys checked, journals taken up again, then the
//! sockets answer and systemd is told READY. Stop (SIGTERM, SIGINT): sockets stop accepting,
//! calls under way get a moment; migrations are left to their journals.

mod image_dir;
mod incoming;
mod janitor;
pub mod logging;
mod node_service;
mod sockets;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use mycedrive_proto::migration::destination_server::DestinationServer;
use mycedrive_proto::migration::source_server::SourceServer;
use mycedrive_proto::node_ttrpc::create_node;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Server;

use crate::app::{App, Shared};
use crate::blocks::FRAME;
use crate::config::Config;
use crate::destination::{self, DestinationService};
use crate::error::{Error, Result};
use crate::peers::Peers;
use crate::source::{self, SourceService};
use crate::{archive, files, kubernetes, machine, metrics, operator, tls};

/// How long calls under way may take when the daemon stops.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the daemon until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> Result<()> {
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    };
    serve_until(config, stop).await
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|error| Error::Failed(format!("cannot wait for signals: {error}")))
}

/// Runs the daemon until `stop` is ready.
pub async fn serve_until(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    prepare(&config)?;
    let _only = sockets::lock(&config.state_dir)?;
    image_dir::mount(&config);
    // Bad keys are better told now than to the first peer.
    tls::server(&config.pki_dir)?;
    tls::client(&config.pki_dir)?;

    let passed = sockets::passed()?;
    let tcp = match passed.tcp {
        Some(listener) => TcpListener::from_std(listener)
            .map_err(|error| Error::Failed(format!("socket from systemd: {error}")))?,
        None => TcpListener::bind(config.listen).await.map_err(|error| {
            Error::Failed(format!("cannot listen on {}: {error}", config.listen))
        })?,
    };
    let listen = tcp.local_addr().ok();
    let node_socket = match passed.unix {
        Some(listener) => listener,
        None => sockets::listen(&config.node_socket()).await?,
    };
    let operator_socket = sockets::listen(&config.operator_socket()).await?;

    let peers = Peers::new(config.pki_dir.clone(), config.migration.dial_timeout);
    let app = App::new(config, peers);
    app.migrations.load();
    source::recover(&app).await?;
    destination::recover(&app).await?;
    source::recover_parked(&app).await;
    archive::checkpoint::recover(&app).await;
    janitor::remove_orphaned_images(&app);

    let mut node = ttrpc::r#async::Server::new()
        .add_listener(sockets::for_ttrpc(node_socket)?)
        .register_service(create_node(std::sync::Arc::new(
            node_service::NodeService::new(app.clone()),
        )));
    node.start()
        .await
        .map_err(|error| Error::Failed(format!("node socket: {error}")))?;
    tokio::spawn(operator::server::run(app.clone(), operator_socket));
    let grpc = tokio::spawn(grpc(app.clone(), tcp));
    if let Some(listen) = app.config.metrics.listen {
        metrics::serve(app.clone(), listen).await?;
    }
    let janitor = tokio::spawn(janitor::run(app.clone()));
    let events = tokio::spawn(kubernetes::run(app.clone()));
    tokio::spawn(machine::warm_criu());

    tracing::info!(
        node = %app.config.node_name,
        listen = ?listen,
        advertise = %app.config.advertise,
        run_dir = %app.config.run_dir.display(),
        "ready"
    );
    notify(&[NotifyState::Ready]);
    stop.await;
    notify(&[NotifyState::Stopping]);
    app.stopping.cancel();
    janitor.abort();
    events.abort();
    let calls = async { tokio::join!(grpc, node.shutdown()) };
    if tokio::time::timeout(GRACE, calls).await.is_err() {
        tracing::info!("calls were still under way");
    }
    for socket in [app.config.node_socket(), app.config.operator_socket()] {
        let _ = std::fs::remove_file(socket);
    }
    tracing::info!("stopped");
    Ok(())
}

fn prepare(config: &Config) -> Result<()> {
    let shims = config.shims_dir();
    let logs = config.migrations_dir();
    for dir in [
        &config.run_dir,
        &shims,
        &config.image_dir,
        &config.state_dir,
        &config.journal_dir,
        &config.park_dir,
        &logs,
    ] {
        files::make_private_dir(dir)?;
    }
    Ok(())
}

async fn grpc(app: Shared, tcp: TcpListener) {
    let incoming = incoming::accept(app.clone(), tcp);
    let stopping = app.stopping.clone();
    let served = Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(FRAME)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(SourceServer::new(SourceService::new(app.clone())))
        .add_service(DestinationServer::new(DestinationService::new(app.clone())))
        .serve_with_incoming_shutdown(incoming, stopping.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the server for other nodes ended");
    }
}

/// Tells systemd; where there is none, nothing happens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

//! Connections from other nodes: TLS first, then HTTP/2; who calls is in their certificate.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::app::Shared;
use crate::peers::PeerInfo;
use crate::{pki, tls};

/// A caller may take this long for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at one time; more callers wait in the kernel's backlog.
const PARALLEL: usize = 64;

/// A connection whose caller has proved who it is.
#[derive(Debug)]
pub struct NodeStream {
    inner: TlsStream<TcpStream>,
    peer: PeerInfo,
}

/// Accepts until the daemon stops. A failed handshake is logged and ends that connection only.
pub fn accept(app: Shared, listener: TcpListener) -> impl Stream<Item = io::Result<NodeStream>> {
    let (ready, stream) = mpsc::channel(PARALLEL);
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(PARALLEL));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = app.stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give others time to close theirs.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let (app, ready) = (app.clone(), ready.clone());
            tokio::spawn(async move {
                match timeout(HANDSHAKE, handshake(&app, tcp, address)).await {
                    Ok(Ok(stream)) => {
                        tracing::debug!(peer = %stream.peer.name, %address, "connected");
                        let _ = ready.send(Ok(stream)).await;
                    }
                    Ok(Err(message)) => {
                        tracing::warn!(%address, "connection refused: {message}");
                    }
                    Err(_) => tracing::warn!(%address, "connection refused: handshake too slow"),
                }
                drop(slot);
            });
        }
    });
    ReceiverStream::new(stream)
}

async fn handshake(
    app: &Shared,
    tcp: TcpStream,
    address: SocketAddr,
) -> Result<NodeStream, String> {
    let _ = tcp.set_nodelay(true);
    let config = tls::server(&app.config.pki_dir).map_err(|error| error.to_string())?;
    let inner = TlsAcceptor::from(config)
        .accept(tcp)
        .await
        .map_err(|error| error.to_string())?;
    let name = inner
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or("no client certificate".to_owned())
        .and_then(|der| pki::node_name(der).map_err(|error| error.to_string()))?;
    Ok(NodeStream {
        inner,
        peer: PeerInfo { name, address },
    })
}

impl Connected for NodeStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

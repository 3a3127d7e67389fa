//! Other nodes: dialling them, and who a caller is.

mod error;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::blocks::FRAME;
use crate::tls;

pub use error::PeerError;

/// Who calls: taken from the client certificate of the connection. In a handler:
/// `request.extensions().get::<PeerInfo>()`; use [`PeerInfo::of`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The node's name, as its certificate says.
    pub name: String,
    /// Where the connection came from.
    pub address: SocketAddr,
}

impl PeerInfo {
    /// The caller of a request. Every request of the daemon's own server has one.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, tonic::Status> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| tonic::Status::unauthenticated("the caller has no node certificate"))
    }
}

/// Dials other nodes with this node's certificate. The keys are read anew for each dial, so a
/// renewed certificate needs no restart.
#[derive(Debug, Clone)]
pub struct Peers {
    pki_dir: PathBuf,
    dial_timeout: Duration,
}

impl Peers {
    /// Keys are in `pki_dir`; a dial, handshake included, may take `dial_timeout`.
    pub fn new(pki_dir: PathBuf, dial_timeout: Duration) -> Self {
        Self {
            pki_dir,
            dial_timeout,
        }
    }

    /// Connects to `host:port` and proves both sides' identity. The channel does not connect
    /// again by itself: dial again when a call fails.
    ///
    /// Use `mycedrive_proto::migration::source_client::SourceClient::new(channel)`.
    pub async fn dial(&self, endpoint: &str) -> Result<Channel, PeerError> {
        let (host, port) = split_endpoint(endpoint).ok_or_else(|| PeerError::endpoint(endpoint))?;
        let dialled = timeout(self.dial_timeout, self.connect(endpoint, host, port))
            .await
            .map_err(|_| PeerError::TimedOut {
                endpoint: endpoint.to_owned(),
                seconds: self.dial_timeout.as_secs_f64(),
            })??;
        channel(endpoint, dialled).await
    }

    async fn connect(&self, endpoint: &str, host: &str, port: u16) -> Result<TlsStream, PeerError> {
        let config = tls::client(&self.pki_dir).map_err(|error| PeerError::Keys {
            endpoint: endpoint.to_owned(),
            message: error.to_string(),
        })?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| PeerError::endpoint(endpoint))?;
        let tcp =
            TcpStream::connect((host, port))
                .await
                .map_err(|source| PeerError::Unreachable {
                    endpoint: endpoint.to_owned(),
                    message: source.to_string(),
                })?;
        let _ = tcp.set_nodelay(true);
        let classify = |source: std::io::Error| PeerError::of_handshake(endpoint, &source);
        let mut stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(classify)?;
        // With TLS 1.3 the client's handshake is over before the server has looked at the
        // client's certificate. Its first bytes (HTTP/2 settings) say that it accepted it.
        if stream.fill_buf().await.map_err(classify)?.is_empty() {
            return Err(PeerError::Refused {
                endpoint: endpoint.to_owned(),
                message: "it closed the connection during the handshake".to_owned(),
            });
        }
        Ok(stream)
    }
}

type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// HTTP/2 over the stream that is there; a second connection attempt fails.
async fn channel(endpoint: &str, stream: TlsStream) -> Result<Channel, PeerError> {
    let lost = |message: String| PeerError::Lost {
        endpoint: endpoint.to_owned(),
        message,
    };
    // TLS is done: for tonic the stream is a plain one.
    let uri: Uri = format!("http://{endpoint}")
        .parse()
        .map_err(|_| PeerError::endpoint(endpoint))?;
    let mut once = Some(stream);
    let connector = service_fn(move |_: Uri| {
        let stream = once.take();
        async move {
            stream
                .map(TokioIo::new)
                .ok_or_else(|| std::io::Error::other("the connection to the node was lost"))
        }
    });
    Endpoint::from(uri)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| lost(error.to_string()))
}

/// Splits `host:port`; an IPv6 address stands in brackets. Nothing when it is not that.
pub fn split_endpoint(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        return Some((inner, port));
    }
    crate::pki::valid_name(host).then_some((host, port))
}

//! The streams of exec, attach and port-forward, over WebSocket as kubectl and kubelet use them.
//!
//! Every message begins with the number of its channel (`v4.channel.k8s.io`).

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use mycedrive_integration::Node;
use nix::sched::{CloneFlags, setns};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

const PROTOCOL: &str = "v4.channel.k8s.io";
const PATIENCE: Duration = Duration::from_secs(30);

/// Channels of exec and attach.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// How it ended, as a Kubernetes Status.
pub const STATUS: u8 = 3;
/// Size of the terminal.
pub const RESIZE: u8 = 4;

/// A connection with channels.
pub struct Stream {
    socket: WebSocket<TcpStream>,
    received: Vec<Vec<u8>>,
    ended: bool,
}

impl Stream {
    /// Connects to a URL of the node's streaming server, which listens on the node's loopback.
    pub fn open(node: &Node, url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").context("not an http URL")?;
        let address = rest.split('/').next().unwrap_or_default().to_owned();
        let tcp = connect(node, &address)?;
        tcp.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut request = format!("ws://{rest}").into_client_request()?;
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
        // The handshake itself must not be cut short.
        tcp.set_read_timeout(Some(PATIENCE))?;
        let (socket, _) = tungstenite::client(request, tcp).map_err(|error| anyhow!("{error}"))?;
        socket
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self {
            socket,
            received: Vec::new(),
            ended: false,
        })
    }

    /// Sends bytes on a channel.
    pub fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let mut message = vec![channel];
        message.extend_from_slice(bytes);
        Ok(self.socket.send(Message::binary(message))?)
    }

    /// What has come on a channel.
    pub fn text(&self, channel: u8) -> String {
        self.received
            .get(usize::from(channel))
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default()
    }

    /// The bytes that have come on a channel.
    pub fn bytes(&self, channel: u8) -> &[u8] {
        self.received
            .get(usize::from(channel))
            .map_or(&[], Vec::as_slice)
    }

    /// Waits until a channel holds this text.
    pub fn expect(&mut self, channel: u8, text: &str) -> Result<()> {
        self.until(|stream| stream.text(channel).contains(text))
            .with_context(|| {
                format!(
                    "`{text}` did not come on channel {channel}: `{}`",
                    self.text(channel)
                )
            })
    }

    /// Waits until the other side ends.
    pub fn end(&mut self) -> Result<()> {
        self.until(|stream| stream.ended)
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        let limit = Instant::now() + PATIENCE;
        while !done(self) {
            if self.ended {
                bail!("the stream ended");
            }
            if Instant::now() > limit {
                bail!("not within {PATIENCE:?}");
            }
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.take(&bytes),
                Ok(Message::Text(text)) => self.take(text.as_bytes()),
                Ok(Message::Close(_))
                | Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => {
                    self.ended = true;
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(tungstenite::Error::Io(_) | tungstenite::Error::Protocol(_)) => {
                    self.ended = true;
                }
                Err(error) => return Err(anyhow!("{error}")),
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &[u8]) {
        let Some((channel, bytes)) = message.split_first() else {
            return;
        };
        let channel = usize::from(*channel);
        if self.received.len() <= channel {
            self.received.resize(channel + 1, Vec::new());
        }
        self.received[channel].extend_from_slice(bytes);
    }
}

/// Connects from within the node's network namespace; a thread of its own joins it and ends.
fn connect(node: &Node, address: &str) -> Result<TcpStream> {
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", node.pid()))?;
    let address = address.to_owned();
    std::thread::spawn(move || -> Result<TcpStream> {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        TcpStream::connect(&address).with_context(|| format!("cannot connect to {address}"))
    })
    .join()
    .map_err(|_| anyhow!("a thread panicked"))?
}

//! One pod's TUN: reads into the queue, writes what the other node sent.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mycedrive_connection::{PodNet, Tun};
use mycedrive_proto::migration::Packets;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::queue::Queue;
use super::session::{Current, Session};
use crate::error::{Error, Result};

/// Packets read before another task gets its turn.
const TURN: usize = 128;
/// Turns that empty a full TUN, of 5000 packets.
const FULL: usize = 40;

/// The packets of one pod. Clones are the same pump; it ends with [`Pump::give_back`], when
/// the device is removed, or when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Pump {
    pub(super) inner: Arc<Inner>,
    /// Ends the reading task with the last clone.
    _reader: Arc<tokio_util::sync::DropGuard>,
}

#[derive(Debug)]
pub(super) struct Inner {
    tun: AsyncFd<File>,
    pub(super) queue: Queue,
    /// The device is gone, or reading was ended.
    pub(super) gone: CancellationToken,
    /// The other node said that it needs the route no more.
    pub(super) peer_closed: CancellationToken,
    /// The session that was connected last.
    pub(super) session: Mutex<Current>,
    read: AtomicU64,
    written: AtomicU64,
}

impl Pump {
    /// Attaches to the TUN of a prepared or adopted pod and holds packets from now on. Must be
    /// called within the runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when there is no TUN, or another process is attached.
    pub async fn attach(net: Arc<PodNet>, tun: Tun) -> Result<Self> {
        let tun = blocking(move || net.open_tun(tun)).await?;
        Self::over(tun)
    }

    /// A pump on a descriptor that gives and takes one packet per read and write.
    pub(super) fn over(tun: OwnedFd) -> Result<Self> {
        // SAFETY: a File has the same open descriptor from here until it is dropped, which
        // AsyncFd does after it has taken it out of the reactor.
        let tun = unsafe { AsyncFd::register_with_interest(File::from(tun), Interest::READABLE) }
            .map_err(|error| Error::Failed(format!("cannot watch the pod's TUN: {error}")))?;
        let inner = Arc::new(Inner {
            tun,
            queue: Queue::default(),
            gone: CancellationToken::new(),
            peer_closed: CancellationToken::new(),
            session: Mutex::default(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
        });
        let stop = inner.gone.clone();
        tokio::spawn(read(Arc::clone(&inner)));
        Ok(Self {
            inner,
            _reader: Arc::new(stop.drop_guard()),
        })
    }

    /// Connects to the other node, which `hello` tells what this is about: ends the session
    /// before, if there is one.
    pub fn connect(&self, hello: Packets) -> Session {
        Session::new(self, Some(hello), 0)
    }

    /// The other node has connected: ends the session before. `None` while a node is connected
    /// to which the pod moved later, `hops` moves being counted from the first one.
    pub fn admit(&self, hops: u32) -> Option<Session> {
        let later = {
            let session = &self.inner.session;
            let session = session.lock().unwrap_or_else(PoisonError::into_inner);
            session.is_later_than(hops)
        };
        (!later).then(|| Session::new(self, None, hops))
    }

    /// Packets that wait for the other node.
    pub fn held(&self) -> usize {
        self.inner.queue.count().0
    }

    /// Packets read from the TUN, written to it, and dropped for want of room, so far.
    pub fn counts(&self) -> (u64, u64, u64) {
        let inner = &self.inner;
        (
            inner.read.load(Ordering::Relaxed),
            inner.written.load(Ordering::Relaxed),
            inner.queue.count().1,
        )
    }

    /// Tells the other node that the route ends: now if connected, else when it dials.
    pub fn close(&self) {
        self.inner.queue.close();
    }

    /// [`Pump::close`], and waits until the other node, if one is connected, has sent its last
    /// packets; for `limit` at most.
    pub async fn farewell(&self, limit: Duration) {
        let ended = {
            let session = &self.inner.session;
            let session = session.lock().unwrap_or_else(PoisonError::into_inner);
            session.ended()
        };
        self.close();
        if tokio::time::timeout(limit, ended.cancelled())
            .await
            .is_err()
        {
            tracing::debug!("the other node did not end the old connections in time");
        }
    }

    /// What the kernel has put into the TUN so far is the last that goes to the other node.
    pub(super) fn close_after_waiting(&self) {
        self.inner.read_waiting();
        self.close();
    }

    /// Waits until the other node said that the route ended.
    pub async fn peer_closed(&self) {
        self.inner.peer_closed.cancelled().await;
    }

    /// Waits until the device is gone.
    pub async fn gone(&self) {
        self.inner.gone.cancelled().await;
    }

    /// Source, rolled back, network unlocked: ends the pump and hands the packets that it held
    /// to the pod. Returns how many.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]: the packets are lost; clients repeat what needs an answer.
    pub async fn give_back(self, net: Arc<PodNet>) -> Result<usize> {
        self.end_session();
        self.inner.gone.cancel();
        self.inner.read_waiting();
        let packets = self.inner.queue.drain();
        if packets.is_empty() {
            return Ok(0);
        }
        blocking(move || net.deliver(&packets)).await
    }

    pub(super) fn end_session(&self) {
        let session = &self.inner.session;
        session.lock().unwrap_or_else(PoisonError::into_inner).end();
    }
}

/// Run one of the connection crate's calls, which block for about a millisecond.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> mycedrive_connection::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Failed(error.to_string())),
        Err(error) => Err(Error::Failed(format!("network thread: {error}"))),
    }
}

impl Inner {
    /// Write one packet to the pod. One that the kernel does not take is lost, as on any
    /// network.
    pub(super) fn write(&self, packet: &[u8]) {
        if self.tun.get_ref().write(packet).is_ok() {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Read what waits, at most one turn. An error other than "nothing there" means that the
    /// device is gone.
    fn read_turn(&self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..TURN {
            match self.tun.get_ref().read(buffer) {
                Ok(length) => {
                    if wanted(&buffer[..length]) {
                        self.read.fetch_add(1, Ordering::Relaxed);
                        self.queue.push(buffer[..length].to_vec());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Read everything that waits. What comes meanwhile is not waited for, or this may not end.
    fn read_waiting(&self) {
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..FULL {
            if self.read_turn(&mut buffer).is_err() {
                return;
            }
        }
    }
}

async fn read(inner: Arc<Inner>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let ready = tokio::select! {
            () = inner.gone.cancelled() => return,
            ready = inner.tun.readable() => ready,
        };
        let Ok(mut ready) = ready else { break };
        match inner.read_turn(&mut buffer) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => {
                tracing::debug!(%error, "the pod's TUN is gone");
                break;
            }
        }
    }
    inner.gone.cancel();
}

/// Whole IP packets to one address: what the kernel itself sends to groups (listener reports,
/// discovery) is no business of the other node.
fn wanted(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.len() >= 20 && packet[16] & 0xf0 != 0xe0,
        Some(6) => packet.len() >= 40 && packet[24] != 0xff,
        _ => false,
    }
}

//! One connection between two pumps.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures::{Stream, StreamExt as _};
use mycedrive_proto::migration::Packets;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::pump::{Inner, Pump};
use super::queue::Next;

/// Batches on their way into the stream. The rest waits in the queue, where it is bounded.
const AHEAD: usize = 4;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other node said that the route ends.
    Closed,
    /// The stream ended or broke.
    Cut,
    /// A newer session took over.
    Replaced,
    /// The device is gone.
    Gone,
}

/// What a pump knows of its session.
#[derive(Debug)]
pub(super) struct Current {
    ended: CancellationToken,
    /// How many moves after the first one the other node came by.
    hops: u32,
}

/// None yet.
impl Default for Current {
    fn default() -> Self {
        let ended = CancellationToken::new();
        ended.cancel();
        Self { ended, hops: 0 }
    }
}

impl Current {
    /// Ends the session.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Cancelled when it has ended.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Whether it goes on, with a node to which the pod moved later.
    pub(super) fn is_later_than(&self, hops: u32) -> bool {
        !self.ended.is_cancelled() && self.hops > hops
    }
}

/// A connected pump. Dropping it ends the stream to the other node.
#[derive(Debug)]
pub struct Session {
    inner: Arc<Inner>,
    outgoing: Option<ReceiverStream<Packets>>,
    sending: JoinHandle<()>,
    ended: CancellationToken,
    _end: DropGuard,
    started: Instant,
}

impl Session {
    pub(super) fn new(pump: &Pump, hello: Option<Packets>, hops: u32) -> Self {
        let ended = CancellationToken::new();
        {
            let current = &pump.inner.session;
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = ended.clone();
            std::mem::replace(&mut *current, Current { ended, hops }).end();
        }
        let (sender, receiver) = mpsc::channel(AHEAD);
        if let Some(hello) = hello {
            // There is room: the channel is new.
            let _ = sender.try_send(hello);
        }
        let sending = tokio::spawn(send(Arc::clone(&pump.inner), sender, ended.clone()));
        Self {
            inner: Arc::clone(&pump.inner),
            outgoing: Some(ReceiverStream::new(receiver)),
            sending,
            _end: ended.clone().drop_guard(),
            ended,
            started: Instant::now(),
        }
    }

    /// What goes to the other node. Only the first call has it; the stream is empty after.
    pub fn outgoing(&mut self) -> ReceiverStream<Packets> {
        self.outgoing
            .take()
            .unwrap_or_else(|| ReceiverStream::new(mpsc::channel(1).1))
    }

    /// After [`Pump::close`]: returns when all that waited is on its way, and ends.
    pub(super) async fn finish(self) {
        let Self { sending, _end, .. } = self;
        let _ = sending.await;
    }

    /// Since when.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Writes what the other node sends to the pod, until the session ends.
    pub async fn run(
        &self,
        mut incoming: impl Stream<Item = Result<Packets, Status>> + Unpin,
    ) -> End {
        loop {
            let message = tokio::select! {
                () = self.ended.cancelled() => return End::Replaced,
                () = self.inner.gone.cancelled() => return End::Gone,
                message = incoming.next() => message,
            };
            let Some(Ok(message)) = message else {
                return End::Cut;
            };
            for packet in &message.packets {
                self.inner.write(packet);
            }
            if message.closed {
                self.inner.peer_closed.cancel();
                return End::Closed;
            }
        }
    }
}

async fn send(inner: Arc<Inner>, sender: mpsc::Sender<Packets>, ended: CancellationToken) {
    loop {
        // Room first: packets that were taken from the queue cannot be put back.
        let room = tokio::select! {
            () = ended.cancelled() => return,
            room = sender.reserve() => room,
        };
        let Ok(room) = room else { return };
        let next = tokio::select! {
            () = ended.cancelled() => return,
            () = sender.closed() => return,
            next = inner.queue.next() => next,
        };
        match next {
            Next::Batch(packets) => room.send(Packets {
                packets,
                ..Packets::default()
            }),
            Next::Closed => {
                room.send(Packets {
                    closed: true,
                    ..Packets::default()
                });
                return;
            }
        }
    }
}

/// The source's side of `Relay`: answers with what the pump sends, and carries what comes in.
/// The caller has taken the first message, which names the migration, and admitted the node.
pub fn serve<S>(
    mut session: Session,
    migration: &str,
    incoming: S,
) -> impl Stream<Item = Result<Packets, Status>> + Send + use<S>
where
    S: Stream<Item = Result<Packets, Status>> + Send + Unpin + 'static,
{
    let outgoing = session.outgoing();
    let span = tracing::info_span!("relay", migration = %migration);
    let run = async move {
        tracing::info!("the destination takes the old connections' packets");
        let end = session.run(incoming).await;
        tracing::info!(?end, "relay session ended");
    };
    tokio::spawn(tracing::Instrument::instrument(run, span));
    outgoing.map(Ok)
}

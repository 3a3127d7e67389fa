//! The destination's side: dials, dials again, and knows when the route is needed no more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use mycedrive_connection::PodNet;
use mycedrive_proto::migration::Packets;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::pump::{Pump, blocking};
use super::session::End;

/// Why the route ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The old pod is gone, or the source does not know the migration any more.
    Closed,
    /// No old connection was left, and nothing came for a while.
    Idle,
    /// The device is gone, and with it this pod.
    Gone,
}

/// When to try again and when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before the second attempt to dial; doubles with each that fails.
    pub retry: Duration,
    /// The longest time between attempts.
    pub longest: Duration,
    /// How often connections are counted.
    pub check: Duration,
    /// With no connection and no packet from the source for so long the route ends.
    pub idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            retry: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            check: Duration::from_secs(5),
            idle: Duration::from_secs(60),
        }
    }
}

/// How long both nodes may take to say what there is to say at a route's end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Carries packets between this pod and the source until the route is needed no more.
///
/// `dial` calls `Source.Relay` with the stream it is given, whose first message is `hello`, and
/// returns the answer's stream. A
/// failure is tried again for as long as there are connections; `NotFound` says that the
/// source has forgotten the migration, which ends the route.
///
/// `farewell` ends the connections when the old pod goes: what the kernel says of it gets to their
/// peers, over that pod's network, which waits for it.
pub async fn follow<D, F, S>(
    pump: &Pump,
    net: Arc<PodNet>,
    old: &[IpAddr],
    hello: Packets,
    timing: Timing,
    dial: D,
    farewell: impl AsyncFnOnce(),
) -> Ended
where
    D: FnMut(ReceiverStream<Packets>) -> F,
    F: Future<Output = Result<S, Status>>,
    S: Stream<Item = Result<Packets, Status>> + Unpin,
{
    let old: Arc<[IpAddr]> = old.into();
    let count = move || {
        let (net, old) = (Arc::clone(&net), Arc::clone(&old));
        blocking(move || net.connections(&old))
    };
    carry(pump, hello, timing, dial, count, farewell).await
}

/// [`follow`] with the count of connections given.
pub(super) async fn carry<D, F, S, C, G>(
    pump: &Pump,
    hello: Packets,
    timing: Timing,
    mut dial: D,
    count: C,
    farewell: impl AsyncFnOnce(),
) -> Ended
where
    D: FnMut(ReceiverStream<Packets>) -> F,
    F: Future<Output = Result<S, Status>>,
    S: Stream<Item = Result<Packets, Status>> + Unpin,
    C: FnMut() -> G,
    G: Future<Output = crate::Result<usize>>,
{
    let migration = hello.migration_id.as_str();
    let connected = async {
        let mut wait = timing.retry;
        loop {
            let mut session = pump.connect(hello.clone());
            let end = match dial(session.outgoing()).await {
                Ok(incoming) => {
                    tracing::info!(migration, "relay of old connections is up");
                    session.run(incoming).await
                }
                Err(status) if status.code() == Code::NotFound => return Ended::Closed,
                Err(status) => {
                    tracing::warn!(migration, %status, "cannot dial the source's relay");
                    End::Cut
                }
            };
            match end {
                End::Closed => {
                    let last = async {
                        farewell().await;
                        pump.close_after_waiting();
                        session.finish().await;
                    };
                    let _ = tokio::time::timeout(GOODBYE, last).await;
                    return Ended::Closed;
                }
                End::Gone => return Ended::Gone,
                End::Cut | End::Replaced => {}
            }
            // A session that worked for a while was cut, not refused.
            if session.started().elapsed() > timing.longest {
                wait = timing.retry;
            }
            drop(session);
            tracing::info!(migration, ?end, ?wait, "relay is down, dialling again");
            tokio::select! {
                () = pump.gone() => return Ended::Gone,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(timing.longest);
        }
    };
    tokio::pin!(connected);
    tokio::select! {
        ended = &mut connected => return ended,
        () = idle(pump, timing, count) => {}
    }
    // The source hears it, so that it can refuse new connections instead of swallowing them.
    pump.close();
    let _ = tokio::time::timeout(GOODBYE, connected).await;
    Ended::Idle
}

/// Returns when there was neither a connection nor a packet for long enough.
async fn idle<C, G>(pump: &Pump, timing: Timing, mut count: C)
where
    C: FnMut() -> G,
    G: Future<Output = crate::Result<usize>>,
{
    let mut busy = Instant::now();
    let mut written = pump.counts().1;
    loop {
        tokio::time::sleep(timing.check).await;
        let now_written = pump.counts().1;
        let connections = match count().await {
            Ok(connections) => connections,
            Err(error) => {
                tracing::warn!(%error, "cannot count the old connections");
                1
            }
        };
        if connections > 0 || now_written != written {
            busy = Instant::now();
            written = now_written;
        }
        if busy.elapsed() >= timing.idle {
            return;
        }
    }
}

//! Packets that wait for the other node.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that wait at most; beyond, the oldest packet is dropped. A client that got no answer
/// repeats its packets, so the newest are worth the most.
const LIMIT: usize = 16 << 20;

/// Bytes and packets of one message. Well below gRPC's limit of 4 MiB.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_PACKETS: usize = 256;

/// What comes out of the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Batch(Vec<Vec<u8>>),
    /// Nothing comes any more.
    Closed,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    closed: bool,
}

/// One writer (the TUN), one reader at a time (the session).
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    pub(super) fn push(&self, packet: Vec<u8>) {
        {
            let mut state = self.lock();
            state.bytes += packet.len();
            state.packets.push_back(packet);
            while state.bytes > LIMIT {
                let Some(oldest) = state.packets.pop_front() else {
                    break;
                };
                state.bytes -= oldest.len();
                state.dropped += 1;
            }
        }
        self.changed.notify_one();
    }

    /// No more packets; what waits is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next packets, as soon as there is one. May be dropped while it waits.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take_batch() {
                return next;
            }
            self.changed.notified().await;
        }
    }

    fn take_batch(&self) -> Option<Next> {
        let mut state = self.lock();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES && batch.len() < BATCH_PACKETS {
            let Some(packet) = state.packets.pop_front() else {
                break;
            };
            bytes += packet.len();
            batch.push(packet);
        }
        state.bytes -= bytes;
        if !batch.is_empty() {
            return Some(Next::Batch(batch));
        }
        state.closed.then_some(Next::Closed)
    }

    /// Everything that waits.
    pub(super) fn drain(&self) -> Vec<Vec<u8>> {
        let mut state = self.lock();
        state.bytes = 0;
        state.packets.drain(..).collect()
    }

    /// Packets waiting, and packets dropped so far for want of room.
    pub(super) fn count(&self) -> (usize, u64) {
        let state = self.lock();
        (state.packets.len(), state.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

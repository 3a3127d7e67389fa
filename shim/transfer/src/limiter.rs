//! Bandwidth limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// A token bucket over compressed bytes. Clones share the bucket, so that several streams of one
/// migration stay below one limit together.
#[derive(Clone, Debug)]
pub struct Limiter {
    bytes_per_second: u64,
    /// The moment at which everything sent so far has been paid for.
    paid_until: Arc<Mutex<Instant>>,
}

impl Limiter {
    /// A limit in bytes per second (at least 1).
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_until: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// The limit in bytes per second.
    pub const fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Waits until `bytes` more may be sent.
    pub(crate) fn take(&self, bytes: usize) {
        let wait = self.reserve(bytes, Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
    }

    /// Books `bytes` at `now`; returns how long to wait before sending them.
    fn reserve(&self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut paid = self
            .paid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(BURST).unwrap_or(now);
        *paid = (*paid).max(floor) + cost;
        paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests;

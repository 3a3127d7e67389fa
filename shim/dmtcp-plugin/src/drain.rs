//! DMTCP's way to empty pipes and unix sockets before an image, made shorter.
//!
//! It writes a mark into each and reads until the marks are back, with poll(2), but looks whether
//! that is so only every 100 ms of the clock (`monitorSockets`; `kernelbufferdrainer.h` 4.1 to 5.0):
//! a program with a single pipe stands still for so long at every checkpoint. So its thread's
//! waits are shorter, and the time that they left out is put on the clock that it reads: it looks
//! sooner. Where a mark is still missing, which is another process's turn, it waits longer each
//! time, as long as it always would in the end.

use crate::sys;
use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use libc::timeval;

/// First wait without news after which DMTCP looks (milliseconds). What this process has written is
/// there at once.
const FIRST: c_int = 1;

/// The thread that takes the checkpoint, until pipes and sockets are empty; 0: none.
static THREAD: AtomicI32 = AtomicI32::new(0);
/// The wait before the next look (milliseconds).
static WAIT: AtomicI32 = AtomicI32::new(FIRST);
/// What was left out so far (milliseconds).
static LEFT_OUT: AtomicI64 = AtomicI64::new(0);

/// This thread is about to take a checkpoint.
pub(crate) fn begin() {
    WAIT.store(FIRST, Ordering::Relaxed);
    LEFT_OUT.store(0, Ordering::Relaxed);
    THREAD.store(sys::thread(), Ordering::SeqCst);
}

/// Everything is empty.
pub(crate) fn end() {
    THREAD.store(0, Ordering::SeqCst);
}

fn is_here() -> bool {
    let thread = THREAD.load(Ordering::SeqCst);
    thread != 0 && thread == sys::thread()
}

/// How long to wait instead of `timeout`; `wait` does so and returns what poll(2) does.
pub(crate) fn poll(timeout: c_int, wait: impl FnOnce(c_int) -> c_int) -> c_int {
    let shorter = WAIT.load(Ordering::Relaxed);
    if timeout <= shorter || !is_here() {
        return wait(timeout);
    }
    let news = wait(shorter);
    if news == 0 {
        LEFT_OUT.fetch_add(i64::from(timeout - shorter), Ordering::Relaxed);
        WAIT.store(shorter.saturating_mul(2), Ordering::Relaxed);
    }
    news
}

/// The time of day as that thread is to see it.
pub(crate) fn time_of_day(time: &mut timeval) {
    let left_out = LEFT_OUT.load(Ordering::Relaxed);
    if left_out == 0 || !is_here() {
        return;
    }
    let microseconds = time.tv_usec + left_out % 1000 * 1000;
    time.tv_sec += left_out / 1000 + microseconds / 1_000_000;
    time.tv_usec = microseconds % 1_000_000;
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;

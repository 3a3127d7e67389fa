//! What a client of a migrated pod does and sees: one TCP connection, one counter.
//!
//! [`counter::run`] is the only client of a Redis counter. Each `INCR` must answer exactly one
//! more than the one before, so a lost or doubled write, a reset connection and an error are
//! all seen; the longest time between two answers is the downtime that a client feels.

pub mod client;
pub mod counter;
pub mod leftovers;
#[cfg(feature = "demo")]
pub mod migrations;
pub mod protocol;
pub mod redis;
pub mod report;
#[cfg(feature = "demo")]
pub mod volume;

#[cfg(test)]
mod tests;

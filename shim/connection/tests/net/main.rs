//! The lock, the diversion and the old addresses, in real network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chain;
mod flat;
mod process;
mod pump;
mod route;
mod sockets;
mod source;
mod support;
mod tcp;
mod unix;

//! Real programs under a real DMTCP, with the plugin and the helper, in network namespaces of
//! their own: checkpointed, killed and restarted, here and elsewhere, while clients are connected.
//!
//! DMTCP is looked for in `/opt/dmtcp`, or in the folder that the variable `DMTCP` names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod failures;
mod many;
mod moves;
mod pod;
mod programs;
#[path = "../../../connection/tests/net/pump.rs"]
mod pump;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../../../connection/tests/net/support.rs"]
mod support;
mod symbols;

//! What the containers of a pod share.

mod ipc;
mod sockets;

use crate::world::Scenario;

pub fn all() -> Vec<Scenario> {
    [sockets::all(), ipc::all()].into_iter().flatten().collect()
}

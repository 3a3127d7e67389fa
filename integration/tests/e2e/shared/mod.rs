//! What the containers of a pod share.

mod sockets;

use crate::world::Scenario;

pub fn all() -> Vec<Scenario> {
    sockets::all()
}

//! Packets of old connections between the two nodes.
//!
//! A [`Pump`] sits on the TUN of a pod (see `mycedrive-connection`). On the source it is
//! attached before the freeze and holds what clients send; when the pod runs on the destination
//! that node dials `Source.Relay`, and from then on packets go both ways. The TUN is
//! persistent: after a restart the daemon attaches again, the packets in between are lost and
//! TCP repeats them.
//!
//! **Source**: `prepare_source` on the pod's network, [`Pump::attach`], then the freeze. On a
//! rollback: the shim's `Resume`, then [`Pump::give_back`]. In the `Relay` handler:
//! [`serve`]. When the old pod goes: [`Pump::close`]. When [`Pump::peer_closed`] returns, no
//! old connection is left and the diversion can be undone (`unlock_source`): new connections
//! to the old address are then refused instead of vanishing.
//!
//! **Destination**: after the shim's `Adopt`, [`Pump::attach`]; after `Run`, [`follow`] until
//! it says why the route ended, then the shim's `DropRoute`.
//!
//! **Moved again.** A pod that moves while connections to earlier addresses live has a route, a
//! TUN and a pump for each earlier pod. Its node dials each old pod's node itself, and shows that
//! it may with the [`Token`] that went with the pod. The source sends to the node to which the
//! pod moved last ([`Pump::admit`]).

mod follow;
mod pump;
mod queue;
mod session;
mod table;
mod token;

#[cfg(test)]
mod tests;

pub use follow::{Ended, Timing, follow};
pub use pump::Pump;
pub use session::{End, Session, serve};
pub use table::Relays;
pub use token::Token;

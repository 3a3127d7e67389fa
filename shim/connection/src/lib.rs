//! A pod's network during a migration: the lock, the old addresses, the packets in between.
//!
//! Everything happens inside the pod's own network namespace, so it needs no knowledge of the
//! CNI plugin, changes nothing on the host, and is gone when the namespace is gone.
//!
//! - **Source.** [`PodNet::prepare_source`] makes a TUN device and the routing that leads into
//!   it; the pod does not notice. [`PodNet::lock_source`] is one netfilter transaction: from
//!   then on nothing reaches or leaves the pod's sockets, and every packet for the old
//!   addresses ends in the TUN instead. The old addresses stay where they are, so ARP and
//!   neighbour discovery are answered as before.
//! - **Destination.** [`PodNet::lock_destination`], then [`PodNet::adopt`] puts the old
//!   addresses on a TUN; [`PodNet::unlock_destination`] opens the network.
//! - **Both.** A pod that moves again while it still has an earlier pod's addresses is locked for
//!   those as well: what arrives for them by their TUN leaves by the source's.
//! - The node daemons carry packets between the two TUNs ([`PodNet::open_tun`]).
//!
//! All operations can be repeated after a crash at any point. What must be remembered for the
//! way back (sysctl values) is stored in the TUN's alias, in the kernel.
//!
//! Every call runs on a thread of its own that joins the namespace and ends; the caller's
//! thread never changes its namespace. Calls block for about a millisecond.

mod bytes;
mod destination;
mod device;
mod error;
mod inject;
mod kernel;
mod lock;
mod namespace;
mod remember;
pub mod repair;
mod reply;
mod source;
pub mod unix;

pub use device::{ROUTES, Route, Tun};
pub use error::{Error, Result};
pub use namespace::PodNet;

/// Packets with this mark pass the lock: CRIU sets it on the sockets it repairs.
pub const CRIU_MARK: u32 = 0xc114;

/// Routing table that leads into the source's TUN, and the mark of packets that use it. Those of
/// the destination's TUNs follow.
pub const TABLE: u32 = 7843;

/// Preference of the rules that lead into our tables.
const PREFERENCE: u32 = 1;

/// Where the `local` rule (normally 0) waits while [`PREFERENCE`] must come before it.
const LOCAL_MOVED: u32 = 2;

/// Packets that wait in the TUN for the daemon.
const QUEUE: u32 = 5000;

//! Sockets for DMTCP: what the plugin in a pod's processes cannot do itself.
//!
//! DMTCP writes and restores memory; the plugin (`shim/dmtcp-plugin`) keeps it away from inet
//! sockets and shows them to the [`Helper`], which runs in the shim, one per pod, and has the
//! privilege for TCP_REPAIR (linux/tcp.h; <https://criu.org/TCP_connection>). The helper reads
//! each socket once, however many descriptors and processes share it, makes the sockets again on
//! the destination, and decides when the processes go on.
//!
//! **Lock first.** Between reading and the decision nothing may reach or leave the sockets: the
//! network of the pod must be locked ([`PodNet::lock_source`](crate::PodNet::lock_source),
//! [`PodNet::lock_destination`](crate::PodNet::lock_destination)); the helper refuses otherwise, or
//! has it locked when all processes are suspended ([`Helper::begin_then_lock`]).
//! Let DMTCP's coordinator pass with
//! [`PodNet::with_loopback_port`](crate::PodNet::with_loopback_port).
//!
//! **Repair mode** stays on from the moment a connection is read until the decision: a connection
//! whose processes are killed meanwhile vanishes without FIN or RST.
//!
//! | socket | carried |
//! |---|---|
//! | TCP, connected | addresses, sequence numbers, window, options, unread, unacknowledged and unsent bytes |
//! | TCP, half closed | as connected; CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK |
//! | TCP, over, and the program has not read the end | unread bytes, then the end or the reset |
//! | TCP, connecting | the attempt goes on with the same first sequence number |
//! | TCP, listening | address, backlog, options; connections that were not accepted are not |
//! | UDP, ICMP, raw | addresses and options; datagrams that were not read are not |
//! | TCP with TLS in the kernel; MPTCP, SCTP | no: a socket without a connection takes the place |

mod address;
mod codec;
mod helper;
mod options;
mod restore;
mod save;
mod saved;
mod segment;
pub(crate) mod sockopt;
mod tcp;

pub use helper::{Held, Helper, HelperOptions, Lock, Purpose};
pub use saved::{Lost, Saved};

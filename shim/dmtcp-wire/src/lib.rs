//! What the plugin in a container's processes and the helper in the shim say to each other.
//!
//! A unix socket of type `SOCK_SEQPACKET`: a message is a packet, descriptors travel with it
//! (`SCM_RIGHTS`). The plugin asks, the helper answers each request with one reply. Numbers are
//! little-endian.
//!
//! | when | plugin | helper |
//! |---|---|---|
//! | user threads are suspended | [`Request::Checkpoint`] | [`Reply::Nothing`] or [`Reply::Save`] |
//! | if [`Reply::Save`]: up to [`BATCH`] descriptors at a time | [`Request::Sockets`] | [`Reply::Known`] |
//! | that were all | [`Request::Saved`] | [`Reply::Token`], when the image may be written |
//! | the image is complete | [`Request::Held`] | [`Reply::Go`], at some time |
//! | restarted | [`Request::Restart`] | [`Reply::Welcome`] |
//! | up to [`BATCH`] sockets at a time | [`Request::Want`] | [`Reply::Have`] with descriptors |
//! | restored, the last step before user code | [`Request::Held`] | [`Reply::Go`], at some time |
//!
//! A process that lost its helper while it was held begins again with [`Request::Checkpoint`],
//! `held` set, and is held as before.
//!
//! Both sides are hostile to each other: a message has at most [`MAX_MESSAGE`] bytes, and what is
//! not exactly one message is [`Malformed`]. Nothing is allocated, nothing panics.
#![no_std]

mod cursor;
mod ids;
mod reply;
mod request;

pub use ids::Ids;
pub use reply::Reply;
pub use request::Request;

/// Version of the messages. The two sides are installed together, but an image lives on.
pub const VERSION: u16 = 1;

/// Most sockets in one message. The kernel passes up to 253 descriptors (`SCM_MAX_FD`).
pub const BATCH: usize = 64;

/// No message is longer (bytes).
pub const MAX_MESSAGE: usize = 512;

/// Number of a socket within one checkpoint. 0 stands for a socket that is not carried.
pub type SocketId = u32;

/// What a process shows to get its sockets back: a random number that only the helper and the
/// process's image know.
pub type Token = [u8; 16];

/// Where the helper listens unless the variable [`HELPER_VARIABLE`] says something else.
pub const HELPER_PATH: &str = "/.mycedrive/run/helper.sock";

/// Environment variable with the path of the helper's socket, read when a program starts.
pub const HELPER_VARIABLE: &str = "MYCEDRIVE_HELPER";

/// Not a message: too long, too short, unknown, of another version or with bytes left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("not a message of this version")
    }
}

impl core::error::Error for Malformed {}

/// A message as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    bytes: [u8; MAX_MESSAGE],
    length: usize,
}

impl Packet {
    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

//! Small pieces of the kernel's interfaces, only as much as this crate needs. Everything acts
//! on the network namespace of the calling thread.

pub(crate) mod diag;
pub(crate) mod diag_unix;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod route;
pub(crate) mod sysctl;
pub(crate) mod tun;

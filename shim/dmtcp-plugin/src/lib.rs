//! The plugin that DMTCP loads into a container's processes (`dmtcp_launch --with-plugin`).
//!
//! DMTCP re-creates sockets by itself only between processes that it checkpoints together; into a
//! connection with anybody else it writes bytes of its own. So it must never learn of a socket of
//! the internet families: `interpose` makes the calls that would tell it as bare system calls.
//! Nothing is tracked while the program runs. At a checkpoint `checkpoint` lists the process's
//! inet sockets and shows them to the helper in the shim, which has the privilege to read and
//! re-create them (TCP_REPAIR); the image only holds which descriptor was which socket. After a
//! restart the helper hands the sockets over.
//!
//! The helper also decides when a process goes on: after the image is written, and after a
//! restart, it is held until then. A process that has been held never runs by itself, whatever
//! happens to the helper.
//!
//! What a plugin must live with:
//! - The hooks run on DMTCP's checkpoint thread while the user threads are suspended at any
//!   instruction, maybe inside `malloc` or the dynamic linker. So: own memory (`arena`), bare
//!   system calls (`sys`; DMTCP wraps even `syscall`), no thread-local data, no locks of libc.
//! - Plugins are called in the order of registration before the image is written and in reverse
//!   after it. Ours is registered last: DMTCP's own are through with their descriptors when ours
//!   saves the sockets, and find them in place (for epoll) when they restore.

// A test program that had these would call them instead of its own C library's.
#[cfg(not(test))]
mod arena;
#[cfg(not(test))]
mod checkpoint;
#[cfg(not(test))]
mod dmtcp;
#[cfg_attr(
    test,
    allow(dead_code, reason = "used by what a test program cannot have")
)]
mod drain;
mod epoll;
#[cfg(not(test))]
mod helper;
#[cfg(not(test))]
mod hold;
#[cfg(not(test))]
mod interpose;
#[cfg(not(test))]
mod next;
mod place;
#[cfg_attr(
    test,
    allow(dead_code, reason = "used by what a test program cannot have")
)]
mod sockets;
#[cfg_attr(
    test,
    allow(dead_code, reason = "used by what a test program cannot have")
)]
mod sys;
#[cfg(not(test))]
mod transport;

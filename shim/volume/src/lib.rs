//! A volume as an OverlayFS stack: base, sealed layers, live upper.
//!
//! While a stack is mounted the volume's directory holds one entry, the folder
//! [`layout::FOLDER`], and in it
//!
//! ```text
//! base/      the volume's content at the start; never written while mounted
//! layer-1/   sealed layers, the oldest first
//! upper/     everything since
//! work/      OverlayFS's own
//! root/      empty; has the attributes that the volume's directory had
//! room       1 MiB for the stack itself, in a quota project with a hard limit
//! ```
//!
//! All of it is on the volume's own file system and beneath its own directory: every move is a
//! rename, a quota on the directory (kubelet's project quotas, `du`) still counts everything, and
//! no layer is inside another one. What the folder is (and how far an operation on it got) says
//! an extended attribute `trusted.mycedrive.stack`, which no container can forge that lacks
//! CAP_SYS_ADMIN.
//!
//! # Operations, by the thesis's names
//!
//! | thesis | here | |
//! |---|---|---|
//! | Init Volume | [`init`] | a plain directory becomes a stack |
//! | Create Checkpoint | [`create_checkpoint`] | the upper of a stack that nobody has mounted becomes a sealed layer |
//! | Copy Checkpoint | [`layers`] | what to send, the base first; `mycedrive-transfer` sends it |
//! | Receive Checkpoint | [`receive`] | layers that arrive become a stack |
//! | End Volume | [`end`] | a stack becomes a plain directory again |
//!
//! Each of them is a sequence of steps, and may be cut by a crash between any two: [`recover`]
//! then finds the stack or the plain directory, and all data. A live stack is never remounted
//! over: processes hold descriptors into its upper.

pub mod attach;
mod check;
mod end;
mod entries;
mod error;
mod init;
pub mod layout;
mod merge;
mod mount;
pub mod receive;
mod redirect;
mod room;

pub use check::{Reason, check};
pub use end::{create_checkpoint, end};
pub use error::{Error, Result};
pub use init::init;
pub use layout::{Found, find, layers, recover};
pub use mount::{mount, unmount};

/// Called before each step of an operation. A test makes it end the process there.
pub type Steps<'a> = &'a mut dyn FnMut();

/// For callers that only want the operation.
pub fn undisturbed() {}

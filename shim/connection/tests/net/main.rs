//! The lock, the diversion and the old addresses, in real network namespaces.

mod pump;
mod route;
mod source;
mod support;

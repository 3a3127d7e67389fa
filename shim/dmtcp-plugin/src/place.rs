//! Putting descriptors that have just arrived where the program expects them.

use crate::sys;
use core::ffi::c_int;

/// Descriptors that wait to be placed. A number at which one of them waits may be the very number
/// that another one has to get: the one that waits makes room.
pub(crate) struct Arrived<'a>(pub(crate) &'a mut [c_int]);

impl Arrived<'_> {
    /// Make `to` a duplicate of the `index`th that has arrived.
    pub(crate) fn place(
        &mut self,
        index: usize,
        to: c_int,
        close_on_exec: bool,
    ) -> sys::Result<()> {
        for waiting in self.0.iter_mut().filter(|waiting| **waiting == to) {
            *waiting = sys::fcntl(to, libc::F_DUPFD_CLOEXEC, 0)?;
        }
        let Some(from) = self.0.get(index) else {
            return Err(sys::Errno(libc::EBADF));
        };
        let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
        sys::dup3(*from, to, flags)
    }
}

impl Drop for Arrived<'_> {
    /// All are placed: the duplicates stay, the arrivals go.
    fn drop(&mut self) {
        for fd in &*self.0 {
            sys::close(*fd);
        }
    }
}

#[cfg(test)]
mod tests;

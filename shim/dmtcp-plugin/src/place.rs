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
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::vec::Vec;

    fn socket() -> (c_int, u64) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = sys::inode(socket.as_raw_fd());
        (socket.into_raw_fd(), inode)
    }

    /// Every permutation of three descriptors over their own numbers and one more.
    #[test]
    fn numbers_may_be_swapped() {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let sockets: Vec<_> = (0..3).map(|_| socket()).collect();
            let mut fds: Vec<c_int> = sockets.iter().map(|s| s.0).collect();
            let targets: Vec<c_int> = order.iter().map(|at| sockets[*at].0).collect();
            let mut arrived = Arrived(&mut fds);
            for (index, target) in targets.iter().enumerate() {
                arrived.place(index, *target, index == 1).unwrap();
            }
            arrived.place(0, 900, false).unwrap();
            drop(arrived);
            for (index, target) in targets.iter().enumerate() {
                assert_eq!(sys::inode(*target), sockets[index].1, "{order:?}");
                let flags = sys::fcntl(*target, libc::F_GETFD, 0).unwrap();
                assert_eq!(flags == libc::FD_CLOEXEC, index == 1);
            }
            assert_eq!(sys::inode(900), sockets[0].1);
            for fd in targets.iter().chain(&[900]) {
                sys::close(*fd);
            }
        }
    }

    #[test]
    fn what_has_not_arrived_cannot_be_placed() {
        let mut none = [];
        assert!(Arrived(&mut none).place(0, 901, false).is_err());
    }
}

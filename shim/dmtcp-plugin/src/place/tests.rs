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

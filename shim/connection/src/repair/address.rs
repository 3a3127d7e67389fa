//! Socket addresses.

use nix::sys::socket::{SockaddrStorage, bind, connect, getpeername, getsockname};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

/// The socket's own address, if it has been given one.
pub(super) fn local(socket: impl AsFd) -> io::Result<Option<SocketAddr>> {
    let address: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    Ok(convert(&address).filter(|a| a.port() != 0 || !a.ip().is_unspecified()))
}

/// The address that the socket is connected to.
pub(super) fn peer(socket: impl AsFd) -> io::Result<Option<SocketAddr>> {
    match getpeername::<SockaddrStorage>(socket.as_fd().as_raw_fd()) {
        Ok(address) => Ok(convert(&address)),
        Err(nix::Error::ENOTCONN) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn bind_to(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    bind(socket.as_fd().as_raw_fd(), &SockaddrStorage::from(address)).map_err(Into::into)
}

pub(super) fn connect_to(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    connect(socket.as_fd().as_raw_fd(), &SockaddrStorage::from(address)).map_err(Into::into)
}

fn convert(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|a| (*a).into());
    let v6 = address.as_sockaddr_in6().map(|a| (*a).into());
    v4.map(SocketAddr::V4).or(v6.map(SocketAddr::V6))
}

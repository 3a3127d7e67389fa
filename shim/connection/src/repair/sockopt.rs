//! Socket options as plain data.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

/// From linux/tcp.h, where the `libc` crate does not have it.
pub(super) const TCP_REPAIR_WINDOW: i32 = 29;
/// Repair mode off, and no window probe is sent.
pub(super) const REPAIR_OFF_SILENTLY: i32 = -1;
pub(super) const REPAIR_OFF: i32 = 0;
pub(super) const REPAIR_ON: i32 = 1;
pub(super) const NO_QUEUE: i32 = 0;
pub(super) const RECEIVE_QUEUE: i32 = 1;
pub(super) const SEND_QUEUE: i32 = 2;

/// Values for which any bytes are valid.
///
/// # Safety
///
/// The type has no padding and every bit pattern is a value of it.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: numbers and arrays of them are plain.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
// SAFETY: as above.
unsafe impl Plain for u8 {}

/// Read an option. The kernel may write fewer bytes than `T` has; the rest is zero.
pub(crate) fn get<T: Plain>(socket: impl AsFd, level: i32, name: i32) -> io::Result<T> {
    get_some(socket, level, name).map(|(value, _)| value)
}

/// Read an option, and how many bytes of it the kernel has written.
pub(super) fn get_some<T: Plain>(
    socket: impl AsFd,
    level: i32,
    name: i32,
) -> io::Result<(T, usize)> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of a live buffer.
    let result = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `T` is plain and was zeroed.
    Ok((unsafe { value.assume_init() }, length as usize))
}

pub(crate) fn set<T: Plain>(socket: impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let bytes = std::ptr::from_ref(value).cast::<u8>();
    // SAFETY: the bytes of a borrowed value without padding.
    set_bytes(socket, level, name, unsafe {
        std::slice::from_raw_parts(bytes, size_of::<T>())
    })
}

pub(super) fn set_bytes(socket: impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: pointer and length are those of the borrowed bytes.
    let result = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::setsockopt(fd, level, name, value.as_ptr().cast(), length)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

pub(super) fn tcp<T: Plain>(socket: impl AsFd, name: i32) -> io::Result<T> {
    get(socket, libc::IPPROTO_TCP, name)
}

pub(super) fn set_tcp<T: Plain>(socket: impl AsFd, name: i32, value: &T) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, name, value)
}

/// Which of the `events` (poll(2)), hang-up and errors are there now.
pub(crate) fn poll_now(socket: impl AsFd, events: libc::c_short) -> io::Result<libc::c_short> {
    let mut one = libc::pollfd {
        fd: socket.as_fd().as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one live pollfd is given; it does not wait.
    match unsafe { libc::poll(&raw mut one, 1, 0) } {
        0.. => Ok(one.revents),
        _ => Err(io::Error::last_os_error()),
    }
}

//! Functions of the C library that programs reach here first.
//!
//! For inet sockets they are bare system calls, which DMTCP does not notice. For all others they
//! are DMTCP's, the next in the order of symbol lookup.

use crate::checkpoint::CHECKPOINTS;
use crate::drain;
use crate::next::{fail, next};
use crate::sockets::{is_inet, is_inet_socket};
use crate::sys;
use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;
use libc::{msghdr, nfds_t, pollfd, size_t, sockaddr, socklen_t, ssize_t, timeval};

/// A system call as the C library's function does it.
macro_rules! direct {
    ($number:expr, $($argument:expr),*) => {{
        let mut all = [0usize; 6];
        for (to, from) in all.iter_mut().zip([$($argument as usize),*]) {
            *to = from;
        }
        // SAFETY: the caller has made this very call with these arguments.
        match sys::check(unsafe { sys::call($number, all) }) {
            Ok(value) => value as c_int,
            Err(sys::Errno(errno)) => fail(errno),
        }
    }};
}

fn errno() -> c_int {
    // SAFETY: the C library's errno of this thread.
    unsafe { *libc::__errno_location() }
}

/// Make the call again if it was the checkpoint that interrupted it: some calls are not restarted
/// after a signal handler, whatever its flags (signal(7)).
fn unless_checkpointed<T: PartialEq + From<i8>>(mut call: impl FnMut() -> T) -> T {
    loop {
        let before = CHECKPOINTS.load(Ordering::SeqCst);
        let result = call();
        let interrupted = result == T::from(-1) && errno() == libc::EINTR;
        if !interrupted || CHECKPOINTS.load(Ordering::SeqCst) == before {
            return result;
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if is_inet(domain) {
        return direct!(libc::SYS_socket, domain, kind, protocol);
    }
    next!(
        c"socket",
        fn(c_int, c_int, c_int) -> c_int,
        domain,
        kind,
        protocol
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    if is_inet_socket(fd) {
        return direct!(libc::SYS_bind, fd, address, length);
    }
    next!(
        c"bind",
        fn(c_int, *const sockaddr, socklen_t) -> c_int,
        fd,
        address,
        length
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    if is_inet_socket(fd) {
        return direct!(libc::SYS_listen, fd, backlog);
    }
    next!(c"listen", fn(c_int, c_int) -> c_int, fd, backlog)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    if !is_inet_socket(fd) {
        return next!(
            c"connect",
            fn(c_int, *const sockaddr, socklen_t) -> c_int,
            fd,
            address,
            length
        );
    }
    let before = CHECKPOINTS.load(Ordering::SeqCst);
    let result = unless_checkpointed(|| direct!(libc::SYS_connect, fd, address, length));
    // Established while it was interrupted: the kernel began the call anew on a socket that was
    // restored with its connection.
    let moved = CHECKPOINTS.load(Ordering::SeqCst) != before;
    if result == -1 && errno() == libc::EISCONN && moved {
        return 0;
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    if is_inet_socket(fd) {
        return unless_checkpointed(|| direct!(libc::SYS_accept4, fd, address, length, 0));
    }
    next!(
        c"accept",
        fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int,
        fd,
        address,
        length
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    if is_inet_socket(fd) {
        return unless_checkpointed(|| direct!(libc::SYS_accept4, fd, address, length, flags));
    }
    next!(
        c"accept4",
        fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int,
        fd,
        address,
        length,
        flags
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if is_inet_socket(fd) {
        return direct!(libc::SYS_setsockopt, fd, level, name, value, length);
    }
    next!(
        c"setsockopt",
        fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
        fd,
        level,
        name,
        value,
        length
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, to: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
    unless_checkpointed(|| {
        next!(
            c"recv",
            fn(c_int, *mut c_void, size_t, c_int) -> ssize_t,
            fd,
            to,
            length,
            flags
        )
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvfrom(
    fd: c_int,
    to: *mut c_void,
    length: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    unless_checkpointed(|| {
        next!(
            c"recvfrom",
            fn(c_int, *mut c_void, size_t, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t,
            fd,
            to,
            length,
            flags,
            from,
            from_length
        )
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    unless_checkpointed(|| {
        next!(
            c"recvmsg",
            fn(c_int, *mut msghdr, c_int) -> ssize_t,
            fd,
            message,
            flags
        )
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, from: *const c_void, length: size_t, flags: c_int) -> ssize_t {
    unless_checkpointed(|| {
        next!(
            c"send",
            fn(c_int, *const c_void, size_t, c_int) -> ssize_t,
            fd,
            from,
            length,
            flags
        )
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendto(
    fd: c_int,
    from: *const c_void,
    length: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> ssize_t {
    unless_checkpointed(|| {
        next!(
            c"sendto",
            fn(c_int, *const c_void, size_t, c_int, *const sockaddr, socklen_t) -> ssize_t,
            fd,
            from,
            length,
            flags,
            to,
            to_length
        )
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    unless_checkpointed(|| {
        next!(
            c"sendmsg",
            fn(c_int, *const msghdr, c_int) -> ssize_t,
            fd,
            message,
            flags
        )
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    drain::poll(timeout, |timeout| {
        next!(
            c"poll",
            fn(*mut pollfd, nfds_t, c_int) -> c_int,
            fds,
            count,
            timeout
        )
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
    let result = next!(
        c"gettimeofday",
        fn(*mut timeval, *mut c_void) -> c_int,
        time,
        zone
    );
    if result == 0 && !time.is_null() {
        // SAFETY: the C library has just written it.
        drain::time_of_day(unsafe { &mut *time });
    }
    result
}

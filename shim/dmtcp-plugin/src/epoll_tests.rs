use super::*;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// `correct` looks at all instances of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn instance() -> OwnedFd {
    // SAFETY: epoll_create1 takes a number.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just opened, nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn of(epoll: &OwnedFd) -> Vec<Watch> {
    let mut all = Vec::new();
    list(&mut all);
    all.retain(|watch| watch.epoll == epoll.as_raw_fd());
    all.sort_by_key(|watch| watch.data);
    all
}

fn set(epoll: &OwnedFd, operation: c_int, fd: c_int, events: c_int, data: u64) {
    let watch = Watch {
        epoll: epoll.as_raw_fd(),
        fd,
        events: events as u32,
        data,
        ours: true,
    };
    control(operation, &watch).unwrap();
}

#[test]
fn reads_the_kernels_line() {
    let line = b"tfd:       17 events: 80000019 data: ffffffff00000005  pos:0 ino:0 sdev:8";
    let watch = watch(3, line).unwrap();
    assert_eq!((watch.epoll, watch.fd), (3, 17));
    assert_eq!(
        (watch.events, watch.data),
        (0x8000_0019, 0xffff_ffff_0000_0005)
    );
    for other in [
        b"flags:\t02".as_slice(),
        b"tfd: x",
        b"tfd: 3",
        b"tfd: 3 events: zz data: 1",
        b"",
    ] {
        assert!(super::watch(3, other).is_none());
    }
}

/// What DMTCP gets wrong, and what it leaves out, is put right.
#[test]
fn differences_are_corrected() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let epoll = instance();
    let [one, two, three, stale] = [0; 4].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let (input, output) = (libc::EPOLLIN, libc::EPOLLOUT);
    set(&epoll, libc::EPOLL_CTL_ADD, one.as_raw_fd(), input, 11);
    set(
        &epoll,
        libc::EPOLL_CTL_ADD,
        two.as_raw_fd(),
        input | libc::EPOLLONESHOT,
        22,
    );
    set(
        &epoll,
        libc::EPOLL_CTL_ADD,
        three.as_raw_fd(),
        output | libc::EPOLLET,
        33,
    );
    let wanted = of(&epoll);
    assert_eq!(wanted.len(), 3);
    assert!(wanted.iter().all(|watch| watch.ours));

    correct(&wanted);
    assert_eq!(of(&epoll), wanted);

    set(&epoll, libc::EPOLL_CTL_DEL, one.as_raw_fd(), 0, 0);
    set(&epoll, libc::EPOLL_CTL_MOD, three.as_raw_fd(), input, 34);
    set(&epoll, libc::EPOLL_CTL_ADD, stale.as_raw_fd(), input, 44);
    correct(&wanted);
    assert_eq!(of(&epoll), wanted);
}

/// A one-shot registration that has fired waits for nothing until it is armed again.
#[test]
fn a_one_shot_that_has_fired_stays_disarmed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let epoll = instance();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fd = socket.as_raw_fd();
    set(
        &epoll,
        libc::EPOLL_CTL_ADD,
        fd,
        libc::EPOLLIN | libc::EPOLLONESHOT,
        7,
    );
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    let fires = || {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event is given.
        unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 200) == 1 }
    };
    assert!(fires());
    let wanted = of(&epoll);
    set(
        &epoll,
        libc::EPOLL_CTL_MOD,
        fd,
        libc::EPOLLIN | libc::EPOLLONESHOT,
        7,
    );
    correct(&wanted);
    assert!(!fires());
    set(
        &epoll,
        libc::EPOLL_CTL_MOD,
        fd,
        libc::EPOLLIN | libc::EPOLLONESHOT,
        7,
    );
    assert!(fires());
}

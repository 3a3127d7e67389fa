use super::*;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

#[test]
fn finds_inet_sockets_and_their_duplicates_only() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let twin = tcp.try_clone().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    sys::fcntl(udp.as_raw_fd(), libc::F_SETFD, 0).unwrap();
    let mut found = Vec::new();
    list(|_| false, &mut found).unwrap();
    let entry = |fd: c_int| found.iter().find(|e| e.fd == fd);
    let (one, two) = (
        entry(tcp.as_raw_fd()).unwrap(),
        entry(twin.as_raw_fd()).unwrap(),
    );
    assert_eq!(one.cookie, two.cookie);
    assert_eq!((one.domain, one.kind), (libc::AF_INET, libc::SOCK_STREAM));
    assert!(one.close_on_exec);
    let datagrams = entry(udp.as_raw_fd()).unwrap();
    assert_ne!(datagrams.cookie, one.cookie);
    assert!(!datagrams.close_on_exec);
    assert_eq!(datagrams.kind, libc::SOCK_DGRAM);
    assert_eq!(entry(unix.as_raw_fd()), None);
    assert_eq!(entry(0), None);

    list(|fd| fd == udp.as_raw_fd(), &mut found).unwrap();
    assert!(!found.iter().any(|e| e.fd == udp.as_raw_fd()));
}

#[test]
fn lists_more_descriptors_than_one_read_returns() {
    let many: Vec<_> = (0..600)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let mut found = Vec::new();
    list(|_| false, &mut found).unwrap();
    for socket in &many {
        assert!(found.iter().any(|e| e.fd == socket.as_raw_fd()));
    }
}

#[test]
fn a_cut_entry_is_not_read() {
    assert_eq!(entry(&[0; 10]), None);
    let mut bytes = [0u8; 24];
    bytes[16] = 32;
    assert_eq!(entry(&bytes), None);
    bytes[16] = 24;
    bytes[19..21].copy_from_slice(b"17");
    let (name, rest) = entry(&bytes).unwrap();
    assert_eq!((number(name), rest.len()), (Some(17), 0));
    assert_eq!(number(b".."), None);
}

//! A live TCP connection goes from pod A to pod B, with the socket options that CRIU uses
//! (TCP_REPAIR, see tcp_repair in criu.org and linux/tcp.h).

use crate::pump::{Pump, read_all};
use crate::source::connect;
use crate::support::{Nets, OLD4, OLD6, old, unable};
use mycedrive_connection::{Route, Tun};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::size_of;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

const REPAIR_WINDOW: i32 = 29;
const RECEIVE: i32 = 1;
const SEND: i32 = 2;

fn set<T>(socket: &TcpStream, level: i32, option: i32, value: &T) {
    let length = size_of::<T>() as u32;
    // SAFETY: the pointer and length describe the borrowed value.
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, value, length)
    };
    let error = std::io::Error::last_os_error();
    assert_eq!(result, 0, "set option {level}/{option}: {error}");
}

fn get<T: Default>(socket: &TcpStream, option: i32) -> T {
    let mut value = T::default();
    let mut length = size_of::<T>() as u32;
    // SAFETY: the pointer and length describe the borrowed value, which is plain data.
    let result = unsafe {
        let value = std::ptr::from_mut(&mut value).cast();
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            value,
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "get option {option}");
    value
}

pub fn tcp<T>(socket: &TcpStream, option: i32, value: &T) {
    set(socket, libc::IPPROTO_TCP, option, value);
}

/// What describes a connection whose queues are empty.
pub struct Saved {
    local: SocketAddr,
    peer: SocketAddr,
    sequences: [u32; 2],
    window: [u32; 5],
    mss: u32,
    info: [u8; 8],
    timestamp: u32,
}

/// Reads the state and lets the socket vanish: closed in repair mode it says nothing.
pub fn save(socket: TcpStream) -> Saved {
    let info = get::<[u8; 8]>(&socket, libc::TCP_INFO);
    tcp(&socket, libc::TCP_REPAIR, &1i32);
    let sequences = [RECEIVE, SEND].map(|queue| {
        tcp(&socket, libc::TCP_REPAIR_QUEUE, &queue);
        get::<u32>(&socket, libc::TCP_QUEUE_SEQ)
    });
    let saved = Saved {
        local: socket.local_addr().unwrap(),
        peer: socket.peer_addr().unwrap(),
        sequences,
        window: get(&socket, REPAIR_WINDOW),
        mss: get(&socket, libc::TCP_MAXSEG),
        timestamp: get(&socket, libc::TCP_TIMESTAMP),
        info,
    };
    drop(socket);
    saved
}

/// Makes the connection anew, in repair mode still.
pub fn restore(saved: &Saved) -> TcpStream {
    let (local, peer) = (canonical(saved.local), canonical(saved.peer));
    let family = if local.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: socket() has no memory preconditions.
    let raw = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(raw >= 0);
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    let socket = unsafe { TcpStream::from_raw_fd(raw) };
    tcp(&socket, libc::TCP_REPAIR, &1i32);
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32);
    for (queue, sequence) in [RECEIVE, SEND].into_iter().zip(saved.sequences) {
        tcp(&socket, libc::TCP_REPAIR_QUEUE, &queue);
        tcp(&socket, libc::TCP_QUEUE_SEQ, &sequence);
    }
    let address = |address| nix::sys::socket::SockaddrStorage::from(address);
    nix::sys::socket::bind(socket.as_raw_fd(), &address(local)).unwrap();
    nix::sys::socket::connect(socket.as_raw_fd(), &address(peer)).unwrap();
    // tcpi_options: 1 timestamps, 2 SACK, 4 window scale; then the two scales.
    let (options, scales) = (saved.info[5], saved.info[6]);
    let (send, receive) = (u32::from(scales & 15), u32::from(scales >> 4));
    let mut repair: Vec<[u32; 2]> = vec![[2, saved.mss]];
    if options & 4 != 0 {
        repair.push([3, send | receive << 16]);
    }
    if options & 2 != 0 {
        repair.push([4, 0]);
    }
    if options & 1 != 0 {
        repair.push([8, 0]);
    }
    for option in repair {
        tcp(&socket, libc::TCP_REPAIR_OPTIONS, &option);
    }
    tcp(&socket, libc::TCP_TIMESTAMP, &saved.timestamp);
    tcp(&socket, REPAIR_WINDOW, &saved.window);
    socket
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn hands_over(address: &'static str) {
    let nets = Nets::new();
    let (a, b) = (nets.a.pod(), nets.b.pod());
    let (mut client, mut server) = connect(&nets, address);
    client.write_all(b"before").unwrap();
    let mut bytes = [0; 6];
    server.read_exact(&mut bytes).unwrap();
    server.write_all(b"BEFORE").unwrap();
    client.read_exact(&mut bytes).unwrap();

    a.prepare_source(&old()).unwrap();
    let from = File::from(a.open_tun(Tun::Source).unwrap());
    a.lock_source(&old()).unwrap();
    let saved = save(server);
    client.write_all(b"during").unwrap();

    b.lock_destination().unwrap();
    b.adopt(Route::FIRST, &old(), None).unwrap();
    let saved_there = nets.b.run(move || restore(&saved));
    let to = File::from(b.open_tun(Tun::Route(Route::FIRST)).unwrap());
    tcp(&saved_there, libc::TCP_REPAIR, &0i32);
    b.unlock_destination().unwrap();
    assert_eq!(b.connections(&old()).unwrap(), 1);
    // What was held in the freeze, then everything.
    for packet in read_all(&from) {
        (&to).write_all(&packet).unwrap();
    }
    let _pump = Pump::between(from.into(), to.into());
    let mut server = saved_there;
    for end in [&server, &client] {
        end.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"during");
    server.write_all(b"DURING").unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"DURING");

    let sent: Vec<u8> = (0..500_000u32).map(|n| ((n * 11) >> 2) as u8).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || client.write_all(&sent).map(|()| client).unwrap());
    let mut got = vec![0; expected.len()];
    server.read_exact(&mut got).unwrap();
    assert!(got == expected);
    drop(writer.join().unwrap());
    assert_eq!(server.read(&mut bytes).unwrap(), 0);
    drop(server);
    for _ in 0..100 {
        if b.connections(&old()).unwrap() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("a connection is left");
}

#[test]
fn a_live_connection_goes_on_in_pod_b() {
    if unable() {
        return;
    }
    hands_over(OLD4);
    hands_over(OLD6);
}

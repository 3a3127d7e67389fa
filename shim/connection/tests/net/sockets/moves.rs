//! Connections with full queues, listeners, datagrams, attempts to connect.

use super::*;
use crate::support::{OLD4, again, unable};

/// Unread, unacknowledged and unsent bytes arrive, once and in order.
fn bytes_arrive(address: &'static str, wildcard: &'static str) {
    let nets = Nets::new();
    let [mut client, mut server] = pair(&nets, address, 7000, wildcard);
    let (up, down) = (numbers(40_000), numbers(600_000));
    // The client reads nothing yet: both its window and the server's queue fill up.
    server.set_nonblocking(true).unwrap();
    let mut written = 0;
    let mut quiet = Instant::now();
    while quiet.elapsed() < SHORT {
        match server.write(&down[written..]) {
            Ok(0) => break,
            Ok(count) => {
                written += count;
                quiet = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                sleep(Duration::from_millis(5));
            }
        }
    }
    client.write_all(&up[..80_000]).unwrap();
    sleep(SHORT);
    let moved = Move::new(&nets, vec![server.into()], || {
        client.write_all(&up[80_000..]).unwrap();
    });
    let (sockets, _pump) = moved.run(&nets);
    let mut server = stream(sockets.into_iter().next().unwrap());
    let mut got = vec![0; up.len()];
    server.read_exact(&mut got).unwrap();
    assert!(got == up, "wrong bytes to the server");
    let rest = down[written..].to_vec();
    let mut writing = server.try_clone().unwrap();
    let writer = spawn(move || writing.write_all(&rest).unwrap());
    let mut got = vec![0; down.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == down, "wrong bytes to the client");
    writer.join().unwrap();
    drop(server);
    assert_eq!(client.read(&mut got).unwrap(), 0);
}

#[test]
fn queues_move_with_a_connection() {
    if unable() {
        return;
    }
    bytes_arrive(OLD4, "0.0.0.0");
    bytes_arrive(OLD4, "::");
    bytes_arrive(crate::support::OLD6, "::");
}

#[test]
fn listeners_datagrams_and_attempts_move() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let (listener, udp, connected, bound, blocked) = nets.a.run(|| {
        let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
        set_option(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 3);
        set_option(&listener, libc::SOL_SOCKET, libc::SO_RCVBUF, 100_000);
        // SAFETY: listen takes numbers.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 77) }, 0);
        listener.set_nonblocking(true).unwrap();
        let udp = UdpSocket::bind("[::]:7100").unwrap();
        udp.set_broadcast(true).unwrap();
        let connected = UdpSocket::bind("10.1.0.2:7200").unwrap();
        connected.connect("10.9.0.2:7300").unwrap();
        // SAFETY: socket takes numbers; the descriptor is nobody else's.
        let (bound, blocked) = unsafe {
            let new = |flags| libc::socket(libc::AF_INET, libc::SOCK_STREAM | flags, 0);
            let (one, two) = (new(0), new(libc::SOCK_NONBLOCK));
            (OwnedFd::from_raw_fd(one), OwnedFd::from_raw_fd(two))
        };
        let address: nix::sys::socket::SockaddrIn = "10.1.0.2:7400"
            .parse::<std::net::SocketAddrV4>()
            .unwrap()
            .into();
        nix::sys::socket::bind(bound.as_raw_fd(), &address).unwrap();
        (listener, udp, connected, bound, blocked)
    });
    nix::unistd::fchown(&listener, Some(1234.into()), None).unwrap();
    let answers = nets
        .client
        .run(|| UdpSocket::bind("10.9.0.2:7300").unwrap());
    let target = nets
        .client
        .run(|| TcpListener::bind("10.9.0.2:7500").unwrap());
    let first = std::sync::Mutex::new(None);
    let sockets = vec![
        listener.into(),
        udp.into(),
        connected.into(),
        bound,
        blocked.try_clone().unwrap(),
    ];
    let moved = Move::new(&nets, sockets, || {
        let address: nix::sys::socket::SockaddrIn = "10.9.0.2:7500"
            .parse::<std::net::SocketAddrV4>()
            .unwrap()
            .into();
        let begun = nix::sys::socket::connect(blocked.as_raw_fd(), &address);
        assert_eq!(begun, Err(nix::Error::EINPROGRESS));
        *first.lock().unwrap() = Some(local(&blocked));
        drop(blocked);
    });
    let first = first.lock().unwrap().take().unwrap();
    let [listener, udp, connected, bound, attempt] = <[OwnedFd; 5]>::try_from(
        moved
            .sockets
            .iter()
            .map(|s| s.try_clone().unwrap())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let (_sockets, _pump) = moved.run(&nets);

    assert_eq!(state(&listener), 10);
    assert_eq!(
        option(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
        3
    );
    assert_eq!(
        option(&listener, libc::SOL_SOCKET, libc::SO_RCVBUF),
        200_000
    );
    assert_eq!(option(&listener, libc::SOL_SOCKET, libc::SO_REUSEADDR), 1);
    assert_eq!(nix::sys::stat::fstat(&listener).unwrap().st_uid, 1234);
    let flags = nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_ne!(flags & libc::O_NONBLOCK, 0);
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(false).unwrap();
    let mut client = nets
        .client
        .run(|| TcpStream::connect((OLD4, 7000)).unwrap());
    client.write_all(b"hello").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut bytes = [0; 5];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");

    let udp = UdpSocket::from(udp);
    assert_eq!(
        udp.local_addr().unwrap(),
        "[::]:7100".parse::<SocketAddr>().unwrap()
    );
    assert!(udp.broadcast().unwrap());
    udp.set_read_timeout(Some(LONG)).unwrap();
    answers.send_to(b"datagram", (OLD4, 7100)).unwrap();
    assert_eq!(again(|| udp.recv(&mut [0; 20])).unwrap(), 8);
    let connected = UdpSocket::from(connected);
    connected.send(b"answer").unwrap();
    answers.set_read_timeout(Some(LONG)).unwrap();
    let (_, from) = again(|| answers.recv_from(&mut [0; 20])).unwrap();
    assert_eq!(from, "10.1.0.2:7200".parse().unwrap());

    assert_eq!(
        (state(&bound), local(&bound)),
        (7, "10.1.0.2:7400".parse().unwrap())
    );

    let (accepted, from) = target.accept().unwrap();
    assert_eq!((from, local(&attempt)), (first, first));
    let deadline = Instant::now() + LONG;
    while state(&attempt) != 1 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(10));
    }
    let mut attempt = stream(attempt);
    (&accepted).write_all(b"there").unwrap();
    attempt.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"there");
}

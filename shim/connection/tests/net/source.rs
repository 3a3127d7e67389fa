use crate::pump::read_all;
use crate::support::{Net, Nets, OLD4, OLD6, again, old, unable};
use mycedrive_connection::{Error, PodNet, Route, Tun};
use nix::sys::socket::{setsockopt, sockopt};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(300);

/// A connection from the client to pod A: (client's end, pod's end).
pub fn connect(nets: &Nets, address: &'static str) -> (TcpStream, TcpStream) {
    connect_to(nets, &nets.a, address)
}

/// A connection from the client to a pod: (client's end, pod's end).
pub fn connect_to(nets: &Nets, pod: &Net, address: &'static str) -> (TcpStream, TcpStream) {
    let listener = pod.run(listen);
    let client = nets
        .client
        .run(move || TcpStream::connect((address, 7000)).unwrap());
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(SHORT)).unwrap();
        end.set_nodelay(true).unwrap();
    }
    (client, server)
}

/// A listener on the tests' port. The last one's socket may live a moment longer, in a process that
/// another test has forked and that has not executed its program yet.
fn listen() -> TcpListener {
    for _ in 0..100 {
        match TcpListener::bind("[::]:7000") {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                sleep(Duration::from_millis(20));
            }
            bound => return bound.unwrap(),
        }
    }
    panic!("port 7000 stays in use");
}

fn hears_nothing(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
        heard => {
            eprintln!("heard {heard:?}");
            false
        }
    }
}

fn rolls_back(address: &'static str) {
    let nets = Nets::new();
    let before = nets.a.state();
    let pod = nets.a.pod();
    let (mut client, mut server) = connect(&nets, address);
    client.write_all(b"one").unwrap();
    let mut bytes = [0; 3];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(pod.connections(&old()).unwrap(), 1);

    pod.prepare_source(&old()).unwrap();
    // Prepared, the pod still answers.
    client.write_all(b"two").unwrap();
    server.read_exact(&mut bytes).unwrap();
    server.write_all(b"TWO").unwrap();
    client.read_exact(&mut bytes).unwrap();
    let tun = File::from(pod.open_tun(Tun::Source).unwrap());

    let started = Instant::now();
    pod.lock_source(&old()).unwrap();
    let lock_took = started.elapsed();
    client.write_all(b"thr").unwrap();
    server.write_all(b"THR").unwrap();
    assert!(hears_nothing(&server), "a packet passed the lock");
    assert!(hears_nothing(&client), "a packet left through the lock");
    let held = read_all(&tun);
    assert!(held.iter().any(|p| p.ends_with(b"thr")), "{held:?}");

    let started = Instant::now();
    pod.unlock_source(&old()).unwrap();
    let unlock_took = started.elapsed();
    assert!(pod.deliver(&held).unwrap() > 0);
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"thr");
    eprintln!("lock {lock_took:?}, unlock {unlock_took:?}");
    assert!(lock_took < Duration::from_millis(50));
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"THR");
    drop(tun);
    nets.a.state().assert_same(&before);
}

#[test]
fn a_rollback_keeps_connections_and_leaves_nothing_behind() {
    if unable() {
        return;
    }
    rolls_back(OLD4);
    rolls_back(OLD6);
}

/// While newcomers are held, who is connected talks, and a connection that was made is taken.
#[test]
fn newcomers_wait_and_the_connected_go_on() {
    if unable() {
        return;
    }
    for (address, any) in [(OLD4, "0.0.0.0:0"), (OLD6, "[::]:0")] {
        let nets = Nets::new();
        let before = nets.a.state();
        let (mut client, mut server) = connect(&nets, address);
        let listener = nets.a.run(listen);
        let datagrams = nets.a.run(move || UdpSocket::bind(any).unwrap());
        datagrams.set_read_timeout(Some(SHORT)).unwrap();
        let port = datagrams.local_addr().unwrap().port();
        let attempt = move || {
            let to = (address, 7000).to_socket_addrs().unwrap().next().unwrap();
            TcpStream::connect_timeout(&to, SHORT)
        };
        let pod = nets.a.pod();
        assert_eq!(pod.untaken().unwrap(), 0);
        // It was made before, and not taken yet.
        let early = nets.client.run(attempt).unwrap();
        nets.client.run(move || {
            let socket = UdpSocket::bind(any).unwrap();
            socket.send_to(b"early", (address, port)).unwrap();
        });
        assert_eq!(pod.untaken().unwrap(), 2);
        pod.prepare_source(&old()).unwrap();
        let tun = File::from(pod.open_tun(Tun::Source).unwrap());
        pod.hold_newcomers(&old()).unwrap();

        let mut bytes = [0; 3];
        client.write_all(b"one").unwrap();
        server.read_exact(&mut bytes).unwrap();
        server.write_all(b"ONE").unwrap();
        client.read_exact(&mut bytes).unwrap();
        let (taken, _) = listener.accept().unwrap();
        assert_eq!(again(|| datagrams.recv(&mut [0; 5])).unwrap(), 5);
        assert_eq!(pod.untaken().unwrap(), 0);
        assert_eq!(pod.reset_untaken().unwrap(), 0);
        let (peer, own) = (taken.peer_addr().unwrap(), early.local_addr().unwrap());
        assert_eq!(peer.port(), own.port());
        // The pod's own connections to others are made.
        let other = nets.client.run(listen);
        let gateway = early.local_addr().unwrap().ip();
        nets.a
            .run(move || TcpStream::connect((gateway, 7000)).unwrap());
        drop(other);

        assert!(nets.client.run(attempt).is_err());
        assert!(
            nets.a
                .run(|| TcpStream::connect_timeout(&"127.0.0.1:7000".parse().unwrap(), SHORT))
                .is_err()
        );
        nets.client.run(move || {
            let socket = UdpSocket::bind(any).unwrap();
            socket.send_to(b"hello", (address, port)).unwrap();
        });
        assert!(again(|| datagrams.recv(&mut [0; 5])).is_err());
        let held = read_all(&tun);
        assert!(held.iter().any(|p| p.ends_with(b"hello")), "{held:?}");
        assert!(held.len() > 1, "no attempt to connect in {held:?}");
        assert!(!held.iter().any(|p| p.ends_with(b"one")), "{held:?}");

        // The lock takes its place, and nothing of it stays.
        pod.lock_source(&old()).unwrap();
        client.write_all(b"two").unwrap();
        assert!(hears_nothing(&server));
        pod.unlock_source(&old()).unwrap();
        assert!(pod.deliver(&held).unwrap() > 0);
        assert_eq!(again(|| datagrams.recv(&mut [0; 5])).unwrap(), 5);
        drop(tun);
        nets.a.state().assert_same(&before);
    }
}

/// Who was not accepted hears that nobody will; who was is not disturbed.
#[test]
fn connections_that_nobody_took_end() {
    if unable() {
        return;
    }
    for address in [OLD4, OLD6] {
        let nets = Nets::new();
        let (mut client, mut server) = connect(&nets, address);
        let listener = nets.a.run(listen);
        let late = move || TcpStream::connect((address, 7000)).unwrap();
        let mut late = [(); 2].map(|()| nets.client.run(late));
        for client in &mut late {
            client.set_read_timeout(Some(SHORT)).unwrap();
            client.write_all(b"x").unwrap();
        }
        assert_eq!(nets.a.pod().reset_untaken().unwrap(), 2);
        for client in &mut late {
            let error = client.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        client.write_all(b"one").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        server.write_all(b"ONE").unwrap();
        client.read_exact(&mut [0; 3]).unwrap();
        drop(listener);
    }
}

#[test]
fn dying_sockets_say_nothing() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let pod = nets.a.pod();
    let ends = [OLD4, OLD6].map(|address| connect(&nets, address));
    pod.lock_source(&old()).unwrap();
    for (mut client, server) in ends {
        // Unread bytes make the kernel answer a close with a reset.
        client.write_all(b"unread").unwrap();
        drop(server);
        assert!(hears_nothing(&client));
    }
    // Nor does a connect from inside or the pod's own loopback get anywhere.
    nets.a.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let own = socket.local_addr().unwrap();
        let _ = socket.send_to(b"x", own);
        assert!(again(|| socket.recv(&mut [0])).is_err());
    });
    // The neighbours still find the old addresses.
    nets.router
        .sh("ip neigh flush dev to-a; ip -6 neigh flush dev to-a");
    let tun = File::from(pod.open_tun(Tun::Source).unwrap());
    nets.client.run(|| {
        for (from, to) in [("0.0.0.0:0", OLD4), ("[::]:0", OLD6)] {
            let socket = UdpSocket::bind(from).unwrap();
            socket.send_to(b"hello", (to, 9)).unwrap();
        }
    });
    sleep(SHORT);
    let held = read_all(&tun);
    assert_eq!(held.iter().filter(|p| p.ends_with(b"hello")).count(), 2);
}

#[test]
fn criu_passes_the_lock() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let pod = nets.a.pod();
    pod.lock_source(&old()).unwrap();
    let hears = nets.client.run(|| UdpSocket::bind("0.0.0.0:4001").unwrap());
    hears.set_read_timeout(Some(SHORT)).unwrap();
    for (mark, passes) in [(0, false), (mycedrive_connection::CRIU_MARK, true)] {
        nets.a.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            setsockopt(&socket, sockopt::Mark, &mark).unwrap();
            let _ = socket.send_to(b"x", "10.9.0.2:4001");
        });
        let heard = again(|| hears.recv(&mut [0])).is_ok();
        assert_eq!(heard, passes, "mark {mark:#x}");
    }
}

#[test]
fn every_step_can_be_repeated() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let before = nets.a.state();
    let pod = nets.a.pod();
    pod.unlock_source(&old()).unwrap();
    for _ in 0..2 {
        for _ in 0..2 {
            pod.prepare_source(&old()).unwrap();
        }
        for _ in 0..2 {
            pod.lock_source(&old()).unwrap();
            assert!(pod.locked().unwrap());
        }
        for _ in 0..2 {
            pod.unlock_source(&old()).unwrap();
            assert!(!pod.locked().unwrap());
        }
        nets.a.state().assert_same(&before);
    }
}

#[test]
fn knows_the_pods_addresses_and_refuses_others() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let pod = nets.a.pod();
    assert_eq!(pod.addresses().unwrap(), old());
    assert_eq!(pod.mtu().unwrap(), 1500);
    pod.prepare_source(&old()).unwrap();
    assert_eq!(pod.addresses().unwrap(), old());
    let wrong = pod.prepare_source(&["10.7.7.7".parse().unwrap()]);
    assert!(matches!(wrong, Err(Error::NotHere { .. })), "{wrong:?}");
    assert!(matches!(pod.prepare_source(&[]), Err(Error::NoAddress)));
    assert!(matches!(
        nets.b.pod().open_tun(Tun::Route(Route::FIRST)),
        Err(Error::NoDevice)
    ));
    let own = PodNet::open("/proc/self/ns/net".as_ref());
    assert!(matches!(own, Err(Error::HostNetwork { .. })));
}

#[test]
fn mptcp_is_switched_off() {
    if unable() {
        return;
    }
    let net = Net::new();
    net.pod().disable_mptcp().unwrap();
    let value = net.sh("cat /proc/sys/net/mptcp/enabled 2>/dev/null || echo 0");
    assert_eq!(value.trim(), "0");
}

/// The two steps in the freeze, several times: the fastest one shows what they cost.
#[test]
fn locking_takes_less_than_the_freeze_can_feel() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let (a, b) = (nets.a.pod(), nets.b.pod());
    a.prepare_source(&old()).unwrap();
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..5 {
        // The kernel tidies up after each change for a while, and lets the next one wait.
        sleep(Duration::from_millis(50));
        let start = Instant::now();
        a.lock_source(&old()).unwrap();
        times[0].push(start.elapsed());
        sleep(Duration::from_millis(50));
        let start = Instant::now();
        b.lock_destination().unwrap();
        times[1].push(start.elapsed());
        sleep(Duration::from_millis(50));
        let start = Instant::now();
        b.unlock_destination().unwrap();
        times[2].push(start.elapsed());
    }
    eprintln!("lock source, lock destination, unlock destination: {times:?}");
    for times in times {
        assert!(times.iter().min().unwrap() < &Duration::from_millis(10));
    }
}

/// What docs/connections.md says of datagrams between the lock and the freeze.
#[test]
fn a_datagram_sent_under_the_lock_fails() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let pod = nets.a.pod();
    let _peer = nets
        .router
        .run(|| UdpSocket::bind("10.1.0.1:7000").unwrap());
    let socket = nets.a.run(|| {
        let socket = UdpSocket::bind((OLD4, 0)).unwrap();
        socket.connect("10.1.0.1:7000").unwrap();
        socket
    });
    socket.send(b"before").unwrap();
    pod.lock_source(&old()).unwrap();
    let error = socket.send(b"under").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    pod.unlock_source(&old()).unwrap();
    socket.send(b"after").unwrap();
}

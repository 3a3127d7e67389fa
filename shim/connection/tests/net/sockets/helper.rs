//! What the helper does for processes that do not move, and against those that do not behave.

use super::*;
use crate::support::{OLD4, unable};

/// After a rollback everything is as before, options included.
#[test]
fn a_released_connection_goes_on() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let [mut client, mut server] = pair(&nets, OLD4, 7000, "0.0.0.0");
    set_option(&server, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    let pod = nets.a.pod();
    pod.lock_source(&old()).unwrap();
    let place = Place::new(nets.a.pod());
    place.helper.begin(Purpose::Move).unwrap();
    place.helper.write();
    let process = Process::connect(&place.path());
    let twin = server.try_clone().unwrap();
    let (ids, _) = process.show(&[&server, &twin], false);
    assert_eq!(ids, [1, 1]);
    assert_eq!(option(&server, libc::IPPROTO_TCP, libc::TCP_REPAIR), 1);
    // A second process that shares the socket.
    let other = Process::connect(&place.path());
    assert_eq!(other.show(&[&server], false).0, [1]);
    let held = [process, other].map(|p| spawn(move || p.hold()));
    assert_eq!(place.helper.wait_held(LONG).unwrap().processes, 2);
    assert_eq!(Saved::decode(&place.helper.saved()).unwrap().sockets(), 1);
    place.helper.release().unwrap();
    for held in held {
        held.join().unwrap();
    }
    pod.unlock_source(&old()).unwrap();
    assert_eq!(option(&server, libc::IPPROTO_TCP, libc::TCP_REPAIR), 0);
    assert_eq!(option(&server, libc::SOL_SOCKET, libc::SO_REUSEADDR), 1);
    client.write_all(b"goes on").unwrap();
    let mut bytes = [0; 7];
    server.read_exact(&mut bytes).unwrap();
    server.write_all(&bytes).unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"goes on");
    drop((server, twin));
    assert_eq!(
        client.read(&mut [0]).unwrap(),
        0,
        "the helper has kept the connection open"
    );
}

/// The network is locked when the first process shows its sockets, once, and not before.
#[test]
fn the_lock_comes_when_all_are_suspended() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let [mut client, mut server] = pair(&nets, OLD4, 7000, "0.0.0.0");
    let (pod, place) = (nets.a.pod(), Place::new(nets.a.pod()));
    let net = nets.a.pod();
    place
        .helper
        .begin_then_lock(Purpose::Move, Box::new(move || net.lock_source(&old())));
    assert!(!pod.locked().unwrap());
    // What arrives before is in the socket.
    client.write_all(b"early").unwrap();
    let processes = [(); 2].map(|()| Process::connect(&place.path()));
    for process in &processes {
        place.helper.write();
        process.show(&[&server], false);
        assert!(pod.locked().unwrap());
    }
    place.helper.wait_suspended(2, LONG).unwrap();
    assert_eq!(option(&server, libc::IPPROTO_TCP, libc::TCP_REPAIR), 1);
    place.helper.release().unwrap();
    pod.unlock_source(&old()).unwrap();
    let mut bytes = [0; 5];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"early");

    // One that fails leaves connections alone.
    let fails = || Err(Error::NotLocked);
    place.helper.begin_then_lock(Purpose::Move, Box::new(fails));
    place.helper.write();
    let process = Process::connect(&place.path());
    process.show(&[&server], false);
    let told = place.helper.wait_suspended(1, LONG);
    assert!(matches!(told, Err(Error::NotLocked)), "{told:?}");
    assert_eq!(option(&server, libc::IPPROTO_TCP, libc::TCP_REPAIR), 0);
    client.write_all(b"goes on").unwrap();
    let mut bytes = [0; 7];
    server.read_exact(&mut bytes).unwrap();
}

/// Killed while held, in repair mode: the client hears neither FIN nor RST.
#[test]
fn a_vanished_connection_says_nothing() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let [mut client, server] = pair(&nets, OLD4, 7000, "0.0.0.0");
    let pod = nets.a.pod();
    pod.lock_source(&old()).unwrap();
    let place = Place::new(nets.a.pod());
    place.helper.begin(Purpose::Move).unwrap();
    place.helper.write();
    let process = Process::connect(&place.path());
    process.show(&[&server], false);
    pod.unlock_source(&old()).unwrap();
    place.helper.vanish();
    drop((process, server));
    client.set_read_timeout(Some(SHORT)).unwrap();
    let heard = client.read(&mut [0]);
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// A helper that was killed leaves the process held; the next one lets it go.
#[test]
fn the_next_helper_releases_what_one_has_left() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let [mut client, mut server] = pair(&nets, OLD4, 7000, "0.0.0.0");
    let pod = nets.a.pod();
    pod.lock_source(&old()).unwrap();
    let place = Place::new(nets.a.pod());
    place.helper.begin(Purpose::Move).unwrap();
    place.helper.write();
    let process = Process::connect(&place.path());
    process.show(&[&server], false);
    drop(place);
    assert_eq!(
        process.send_bytes(Request::Held.encode().bytes(), &[]),
        None
    );
    assert_eq!(option(&server, libc::IPPROTO_TCP, libc::TCP_REPAIR), 1);

    let place = Place::new(nets.a.pod());
    let process = Process::connect(&place.path());
    process.show(&[&server], true);
    let held = spawn(move || process.hold());
    assert_eq!(place.helper.wait_held(LONG).unwrap().processes, 1);
    place.helper.release().unwrap();
    held.join().unwrap();
    assert_eq!(option(&server, libc::IPPROTO_TCP, libc::TCP_REPAIR), 0);
    pod.unlock_source(&old()).unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 1);
}

/// A copy carries listeners but no connections, and disturbs nothing.
#[test]
fn a_copy_leaves_connections_alone() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let [mut client, mut server] = pair(&nets, OLD4, 7000, "0.0.0.0");
    let listener = nets.a.run(|| TcpListener::bind("0.0.0.0:7001").unwrap());
    let place = Place::new(nets.a.pod());
    let process = Process::connect(&place.path());
    // Before anybody has said what a checkpoint is for, nothing is wanted.
    assert_eq!(
        process.ask(&Request::Checkpoint { held: false }),
        Reply::Nothing
    );
    place.helper.begin(Purpose::Copy).unwrap();
    place.helper.write();
    process.show(&[&server, &listener], false);
    let held = spawn(move || process.hold());
    let lost = place.helper.wait_held(LONG).unwrap().lost;
    assert_eq!(lost.len(), 1);
    assert!(
        lost[0].socket.starts_with("TCP 10.1.0.2:7000 to 10.9.0.2:"),
        "{lost:?}"
    );
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 1);
    place.helper.release().unwrap();
    held.join().unwrap();
}

/// Whoever does not belong, or does not behave, gets nothing and disturbs nobody.
#[test]
fn strangers_and_nonsense_are_turned_away() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let belongs = Box::new(|_| false);
    let net = nets.a.pod();
    let closed = Helper::new(HelperOptions { net, belongs });
    closed.listen(&path).unwrap();
    let stranger = Process::connect(&path);
    let request = Request::Checkpoint { held: true }.encode();
    assert_eq!(stranger.send_bytes(request.bytes(), &[]), None);
    drop(closed);

    let place = Place::new(nets.a.pod());
    nets.a.pod().lock_source(&old()).unwrap();
    place.helper.begin(Purpose::Move).unwrap();
    place.helper.write();
    let refused = |request: Request| {
        let process = Process::connect(&place.path());
        process.send_bytes(request.encode().bytes(), &[])
    };
    let token = [7; 16];
    for request in [
        Request::Saved,
        Request::Held,
        Request::Sockets { count: 1 },
        Request::Restart { token },
        Request::Want(mycedrive_dmtcp_wire::Ids::new()),
    ] {
        assert_eq!(refused(request), Some(Reply::Refused), "{request:?}");
    }
    for bytes in [&b"\xff"[..], &[1], &[0; 512], &[0; 5000]] {
        let process = Process::connect(&place.path());
        assert_eq!(process.send_bytes(bytes, &[]), None);
    }
    // Descriptors that are no sockets of the pod have no number.
    let process = Process::connect(&place.path());
    let elsewhere = nets.b.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let file = File::open("/dev/null").unwrap();
    let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let good = nets.a.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let (ids, _) = process.show(&[&elsewhere, &file, &unix, &good], false);
    assert_eq!(ids, [0, 0, 0, 1]);
    // Gone before it is held: it does not count.
    drop(process);
    let waited = place.helper.wait_held(SHORT);
    assert!(
        matches!(waited, Err(Error::NotHeld { held: 0, .. })),
        "{waited:?}"
    );
}

/// The coordinator's port on loopback passes the lock, and nothing else does.
#[test]
fn the_coordinator_passes_the_lock() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let pod = nets.a.pod().with_loopback_port(7777);
    pod.lock_source(&old()).unwrap();
    nets.a.run(|| {
        let coordinator = TcpListener::bind("127.0.0.1:7777").unwrap();
        let other = TcpListener::bind("127.0.0.1:7778").unwrap();
        let mut client = TcpStream::connect(coordinator.local_addr().unwrap()).unwrap();
        let (mut server, _) = coordinator.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let refused = TcpStream::connect_timeout(&other.local_addr().unwrap(), SHORT);
        assert!(refused.is_err());
    });
    let outside = nets.client.run(|| {
        let address = "10.1.0.2:7777".parse().unwrap();
        TcpStream::connect_timeout(&address, SHORT)
    });
    assert!(outside.is_err());
}

/// Suspended processes write when they are told to; released before, they are not held after it.
#[test]
fn the_suspended_wait_before_they_write() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let socket = nets.a.run(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    nets.a.pod().lock_source(&old()).unwrap();
    let place = Place::new(nets.a.pod());
    for roll_back in [false, true] {
        place.helper.begin(Purpose::Move).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (path, socket) = (place.path(), socket.try_clone().unwrap());
        let process = spawn(move || {
            let process = Process::connect(&path);
            process.show(&[&socket], false);
            tell.send(()).unwrap();
            process.hold();
        });
        place.helper.wait_suspended(1, LONG).unwrap();
        let more = place.helper.wait_suspended(2, SHORT);
        assert!(
            matches!(
                more,
                Err(Error::NotHeld {
                    held: 1,
                    expected: 2,
                    ..
                })
            ),
            "{more:?}"
        );
        assert!(told.try_recv().is_err(), "it writes before it is told to");
        if roll_back {
            place.helper.release().unwrap();
            told.recv_timeout(LONG).unwrap();
        } else {
            place.helper.write();
            told.recv_timeout(LONG).unwrap();
            assert_eq!(place.helper.wait_held(LONG).unwrap().processes, 1);
            place.helper.release().unwrap();
        }
        process.join().unwrap();
    }
}

//! Connections that are half closed.

use super::*;
use crate::support::{OLD4, unable};

/// Each way of being half closed is there on B, and ends as it should.
#[test]
fn half_closed_connections_move() {
    if unable() {
        return;
    }
    for address in [OLD4, crate::support::OLD6] {
        let nets = Nets::new();
        let make = |port| pair(&nets, address, port, "::");
        let [mut wait_client, wait_server] = make(7001);
        wait_client.write_all(b"unread").unwrap();
        wait_client.shutdown(Shutdown::Write).unwrap();
        let [fin2_client, fin2_server] = make(7002);
        fin2_server.shutdown(Shutdown::Write).unwrap();
        let [fin1_client, fin1_server] = make(7003);
        let [last_client, last_server] = make(7004);
        last_client.shutdown(Shutdown::Write).unwrap();
        let [closing_client, closing_server] = make(7005);
        let [_deaf_client, deaf_server] = make(7006);
        deaf_server.shutdown(Shutdown::Read).unwrap();
        sleep(SHORT);
        let ends: Vec<OwnedFd> = [
            wait_server,
            fin2_server,
            fin1_server.try_clone().unwrap(),
            last_server.try_clone().unwrap(),
            closing_server.try_clone().unwrap(),
            deaf_server,
        ]
        .map(OwnedFd::from)
        .into();
        let moved = Move::new(&nets, ends, || {
            // Locked: these FINs are sent and stay unacknowledged.
            fin1_server.shutdown(Shutdown::Write).unwrap();
            last_server.shutdown(Shutdown::Write).unwrap();
            closing_server.shutdown(Shutdown::Write).unwrap();
            drop((fin1_server, last_server, closing_server));
        });
        let states: Vec<_> = moved.sockets.iter().map(state).collect();
        // CLOSE_WAIT, FIN_WAIT2, FIN_WAIT1, LAST_ACK, FIN_WAIT1, ESTABLISHED.
        assert_eq!(states, [8, 5, 4, 9, 4, 1]);
        closing_client.shutdown(Shutdown::Write).unwrap();
        let (sockets, _pump) = moved.run(&nets);
        let mut sockets = sockets.into_iter().map(stream);
        let mut next = || sockets.next().unwrap();
        let mut all = Vec::new();

        let mut server = next();
        server.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"unread");
        server.write_all(b"answer").unwrap();
        drop(server);
        all.clear();
        wait_client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"answer");

        for (mut client, mut server) in [(fin2_client, next()), (fin1_client, next())] {
            all.clear();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            client.write_all(b"more").unwrap();
            drop(client);
            server.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"more");
        }
        for (mut client, mut server) in [(last_client, next()), (closing_client, next())] {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
        }
        let mut deaf = next();
        assert_eq!(deaf.read(&mut [0]).unwrap(), 0);
    }
}

/// Both FINs on their way at once: CLOSING needs the client's FIN to arrive without an
/// acknowledgement of the server's.
#[test]
fn a_simultaneous_close_moves() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let [client, server] = pair(&nets, OLD4, 7000, "0.0.0.0");
    nets.client
        .sh("nft -V >/dev/null 2>&1 || ip link set eth0 up");
    // The client hears nothing for a while: it sends a FIN that acknowledges only what it knew.
    nets.router.sh("ip route add blackhole 10.9.0.2/32");
    server.shutdown(Shutdown::Write).unwrap();
    sleep(Duration::from_millis(20));
    client.shutdown(Shutdown::Write).unwrap();
    let deadline = Instant::now() + LONG;
    while state(&server) != 11 {
        assert!(Instant::now() < deadline, "state {}", state(&server));
        sleep(Duration::from_millis(5));
    }
    let moved = Move::new(&nets, vec![server.into()], || {});
    assert_eq!(state(&moved.sockets[0]), 11);
    nets.router.sh("ip route del blackhole 10.9.0.2/32");
    let (sockets, _pump) = moved.run(&nets);
    let mut server = stream(sockets.into_iter().next().unwrap());
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    let deadline = Instant::now() + LONG;
    while state(&server) != 7 {
        assert!(Instant::now() < deadline, "state {}", state(&server));
        sleep(Duration::from_millis(20));
    }
    let mut client = client;
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// Over on A, but the program has not read to the end: it does so on B.
#[test]
fn what_is_over_can_be_read_to_its_end() {
    if unable() {
        return;
    }
    for address in [OLD4, crate::support::OLD6] {
        let nets = Nets::new();
        let [mut client, server] = pair(&nets, address, 7001, "::");
        server.shutdown(Shutdown::Write).unwrap();
        client.write_all(b"the last words").unwrap();
        drop(client);
        let [mut rude, reset] = pair(&nets, address, 7002, "::");
        rude.write_all(b"cut short").unwrap();
        (&reset)
            .write_all(b"unread bytes make a reset of a close")
            .unwrap();
        sleep(SHORT);
        drop(rude);
        let [quiet, done] = pair(&nets, address, 7003, "::");
        done.shutdown(Shutdown::Write).unwrap();
        drop(quiet);
        sleep(SHORT);
        assert_eq!([&server, &reset, &done].map(state), [7, 7, 7]);
        let moved = Move::new(&nets, vec![server.into(), reset.into(), done.into()], || {});
        let (sockets, _pump) = moved.run(&nets);
        let mut sockets = sockets.into_iter().map(stream);
        let mut next = || sockets.next().unwrap();
        let mut all = Vec::new();
        next().read_to_end(&mut all).unwrap();
        assert_eq!(all, b"the last words");
        let mut reset = next();
        let error = reset.read_to_end(&mut all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(next().read(&mut [0]).unwrap(), 0);
    }
}

/// A pod that comes without the old addresses: its connections are over, and what had arrived can be
/// read. What else it had is there.
#[test]
fn connections_end_where_the_old_addresses_are_not() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let [mut client, server] = pair(&nets, OLD4, 7000, "0.0.0.0");
    client.write_all(b"unread").unwrap();
    let (listener, resolver) = nets.a.run(|| {
        let resolver = UdpSocket::bind("10.1.0.2:7200").unwrap();
        resolver.connect("10.9.0.2:53").unwrap();
        (TcpListener::bind("0.0.0.0:7001").unwrap(), resolver)
    });
    sleep(SHORT);
    let sockets = vec![server.into(), listener.into(), resolver.into()];
    let leaving = Leaving::new(&nets, sockets, || ());
    let there = Place::new(nets.b.pod());
    nets.b.pod().lock_destination().unwrap();
    let mut saved = leaving.saved();
    saved.close_connections();
    let (sockets, process) = leaving.arrive(&there, saved);
    there.helper.release().unwrap();
    process.join().unwrap();
    let [server, listener, resolver] = <[OwnedFd; 3]>::try_from(sockets).unwrap();
    assert_eq!([state(&server), state(&listener)], [7, 10]);
    let mut server = stream(server);
    let mut all = [0; 6];
    server.read_exact(&mut all).unwrap();
    assert_eq!(&all, b"unread");
    let over = server.read(&mut all).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::ConnectionReset);
    let peer = UdpSocket::from(resolver).peer_addr().unwrap();
    assert_eq!(peer, "10.9.0.2:53".parse().unwrap());
}

//! A pod that moves on while connections to its earlier address live: A to B to C.

use crate::pump::{Pump, read_all};
use crate::source::connect_to;
use crate::support::{Nets, OLD4, OLD6, old, unable};
use crate::tcp::{restore, save, tcp};
use mycedrive_connection::{Route, Tun};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(5);
const FIRST: Tun = Tun::Route(Route::FIRST);

fn addresses(number: u8) -> Vec<IpAddr> {
    vec![
        format!("10.{number}.0.2").parse().unwrap(),
        format!("fd00:{number}::2").parse().unwrap(),
    ]
}

/// Pod A is left, its addresses are with pod B.
fn moved_to_b(nets: &Nets) -> Pump {
    let (a, b) = (nets.a.pod(), nets.b.pod());
    a.prepare_source(&old()).unwrap();
    let from = a.open_tun(Tun::Source).unwrap();
    a.lock_source(&old()).unwrap();
    b.lock_destination().unwrap();
    b.adopt(Route::FIRST, &old(), None).unwrap();
    let to = b.open_tun(FIRST).unwrap();
    b.unlock_destination().unwrap();
    Pump::between(from, to)
}

fn exchange(client: &mut TcpStream, server: &mut TcpStream, text: &[u8]) {
    let mut bytes = vec![0; text.len()];
    for stream in [&*client, &*server] {
        stream.set_read_timeout(Some(PATIENT)).unwrap();
    }
    client.write_all(text).unwrap();
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, text);
    server.write_all(text).unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, text);
}

/// Waits until something for each of these ports' connections was held.
fn held(tun: &File, texts: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for _ in 0..100 {
        all.extend(read_all(tun));
        if texts
            .iter()
            .all(|text| all.iter().any(|p: &Vec<u8>| p.ends_with(text)))
        {
            return all;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not all were held: {all:?}");
}

fn goes_on_in_c(to_a: &'static str, to_b: &'static str) {
    let nets = Nets::new();
    let (b, c) = (nets.b.pod(), nets.c.pod());
    let before = nets.c.state();
    let first = moved_to_b(&nets);
    let (mut client_a, mut server_a) = connect_to(&nets, &nets.b, to_a);
    let (mut client_b, mut server_b) = connect_to(&nets, &nets.b, to_b);
    exchange(&mut client_a, &mut server_a, b"one");
    exchange(&mut client_b, &mut server_b, b"one");

    b.prepare_source(&addresses(2)).unwrap();
    // Prepared, the pod still answers at both.
    exchange(&mut client_a, &mut server_a, b"two");
    exchange(&mut client_b, &mut server_b, b"two");
    let from = File::from(b.open_tun(Tun::Source).unwrap());
    b.lock_source(&addresses(2)).unwrap();
    let saved = [save(server_a), save(server_b)];
    client_a.write_all(b"held A").unwrap();
    client_b.write_all(b"held B").unwrap();
    let waiting = held(&from, &[b"held A", b"held B"]);

    let second = Route::new(1).unwrap();
    c.lock_destination().unwrap();
    c.adopt(Route::FIRST, &addresses(2), None).unwrap();
    c.adopt(second, &old(), None).unwrap();
    let [to_a, to_b] = saved.map(|saved| nets.c.run(move || restore(&saved)));
    let (mut server_a, mut server_b) = (to_a, to_b);
    for server in [&server_a, &server_b] {
        tcp(server, libc::TCP_REPAIR, &0i32);
    }
    let for_b = File::from(c.open_tun(FIRST).unwrap());
    let for_a = c.open_tun(Tun::Route(second)).unwrap();
    c.unlock_destination().unwrap();
    for packet in waiting {
        (&for_b).write_all(&packet).unwrap();
    }
    // Pod B's daemon lets go of pod A's; pod C's takes over.
    drop(first);
    let reopened = nets.a.pod().open_tun(Tun::Source).unwrap();
    let (_pump_a, pump_b) = (
        Pump::between(reopened, for_a),
        Pump::between(from.into(), for_b.into()),
    );
    let mut bytes = [0; 6];
    for (client, server, text) in [
        (&client_a, &server_a, b"held A"),
        (&client_b, &server_b, b"held B"),
    ] {
        let mut server = server;
        for end in [client, server] {
            end.set_read_timeout(Some(PATIENT)).unwrap();
        }
        server.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, text);
    }
    exchange(&mut client_a, &mut server_a, b"three");
    exchange(&mut client_b, &mut server_b, b"three");

    // Pod B goes, and with it the connections to its address; those to pod A's go on.
    drop(pump_b);
    c.drop_route(Route::FIRST, &addresses(2)).unwrap();
    server_b.read(&mut bytes).unwrap_err();
    exchange(&mut client_a, &mut server_a, b"four");
    c.drop_route(second, &old()).unwrap();
    server_a.read(&mut bytes).unwrap_err();
    nets.c.state().assert_same(&before);
}

#[test]
fn connections_to_both_addresses_go_on_in_pod_c() {
    if unable() {
        return;
    }
    goes_on_in_c(OLD4, "10.2.0.2");
    goes_on_in_c(OLD6, "fd00:2::2");
}

#[test]
fn a_rollback_keeps_both() {
    if unable() {
        return;
    }
    for (to_a, to_b) in [(OLD4, "10.2.0.2"), (OLD6, "fd00:2::2")] {
        let nets = Nets::new();
        let untouched = nets.b.state();
        let _pump = moved_to_b(&nets);
        let before = nets.b.state();
        let b = nets.b.pod();
        let (mut client_a, mut server_a) = connect_to(&nets, &nets.b, to_a);
        let (mut client_b, mut server_b) = connect_to(&nets, &nets.b, to_b);
        b.prepare_source(&addresses(2)).unwrap();
        let tun = File::from(b.open_tun(Tun::Source).unwrap());
        b.lock_source(&addresses(2)).unwrap();
        client_a.write_all(b"held A").unwrap();
        client_b.write_all(b"held B").unwrap();
        let waiting = held(&tun, &[b"held A", b"held B"]);
        b.unlock_source(&addresses(2)).unwrap();
        b.deliver(&waiting).unwrap();
        let mut bytes = [0; 6];
        for (server, text) in [(&server_a, b"held A"), (&server_b, b"held B")] {
            let mut server = server;
            server.set_read_timeout(Some(PATIENT)).unwrap();
            server.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, text);
        }
        exchange(&mut client_a, &mut server_a, b"on");
        exchange(&mut client_b, &mut server_b, b"on");
        nets.b.state().assert_same(&before);
        b.drop_route(Route::FIRST, &old()).unwrap();
        nets.b.state().assert_same(&untouched);
    }
}

#[test]
fn a_reset_is_seen_by_both_ends() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let (mut client, mut server) = connect_to(&nets, &nets.a, OLD4);
    exchange(&mut client, &mut server, b"one");
    assert_eq!(nets.a.pod().reset(&addresses(2)).unwrap(), 0);
    exchange(&mut client, &mut server, b"two");
    assert_eq!(nets.a.pod().reset(&old()).unwrap(), 1);
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    server.read(&mut [0]).unwrap_err();
}

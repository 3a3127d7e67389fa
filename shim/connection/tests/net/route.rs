use crate::pump::Pump;
use crate::support::{Nets, OLD4, OLD6, again, old, unable};
use mycedrive_connection::{Route, Tun};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(5);

/// Pod A locked, pod B with the old addresses and open, packets carried between them.
fn handed_over(nets: &Nets) -> Pump {
    let (a, b) = (nets.a.pod(), nets.b.pod());
    a.prepare_source(&old()).unwrap();
    let from = a.open_tun(Tun::Source).unwrap();
    a.lock_source(&old()).unwrap();
    b.lock_destination().unwrap();
    b.adopt(Route::FIRST, &old(), None).unwrap();
    let to = b.open_tun(Tun::Route(Route::FIRST)).unwrap();
    b.unlock_destination().unwrap();
    // The daemons are restarted: the devices stay, with their addresses and routes.
    drop((from, to));
    Pump::between(
        a.open_tun(Tun::Source).unwrap(),
        b.open_tun(Tun::Route(Route::FIRST)).unwrap(),
    )
}

/// The client's socket, which takes answers from this address and port only.
fn caller(nets: &Nets, address: &'static str, port: u16) -> UdpSocket {
    let socket = nets.client.run(move || {
        let any = if address.contains(':') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect((address, port)).unwrap();
        socket
    });
    socket.set_read_timeout(Some(PATIENT)).unwrap();
    socket
}

fn carries(nets: &Nets, address: &'static str) {
    let _pump = handed_over(nets);
    // UDP: the answer comes from the old address, or a connected socket would not take it.
    let server = nets.b.run(move || UdpSocket::bind((address, 53)).unwrap());
    let client = caller(nets, address, 53);
    server.set_read_timeout(Some(PATIENT)).unwrap();
    client.send(b"question").unwrap();
    let mut bytes = [0; 8];
    let (_, peer) = again(|| server.recv_from(&mut bytes)).unwrap();
    server.send_to(&bytes, peer).unwrap();
    assert_eq!(again(|| client.recv(&mut bytes)).unwrap(), 8);

    // The same from a socket that is bound to no address.
    let server = nets.b.run(|| UdpSocket::bind("[::]:54").unwrap());
    server.set_read_timeout(Some(PATIENT)).unwrap();
    let client = caller(nets, address, 54);
    client.send(b"question").unwrap();
    let (_, peer) = again(|| server.recv_from(&mut bytes)).unwrap();
    server.send_to(&bytes, peer).unwrap();
    assert_eq!(again(|| client.recv(&mut bytes)).unwrap(), 8);
    // A person can look at it.
    let shown = nets.b.sh("! command -v nft >/dev/null || nft list ruleset");
    assert!(shown.is_empty() || shown.contains("peers"), "{shown}");
    // A client of the new address hears from that one.
    let new = if address == OLD4 {
        "10.2.0.2"
    } else {
        "fd00:2::2"
    };
    let client = caller(nets, new, 54);
    client.send(b"question").unwrap();
    let (_, peer) = again(|| server.recv_from(&mut bytes)).unwrap();
    server.send_to(&bytes, peer).unwrap();
    assert_eq!(again(|| client.recv(&mut bytes)).unwrap(), 8);

    // TCP both ways, in bulk: segments built by the sender's virtual card arrive whole.
    let listener = nets.b.run(|| TcpListener::bind("[::]:7001").unwrap());
    let mut stream = nets
        .client
        .run(move || TcpStream::connect((address, 7001)).unwrap());
    let (mut accepted, _) = listener.accept().unwrap();
    assert_eq!(nets.b.pod().connections(&old()).unwrap(), 1);
    for stream in [&stream, &accepted] {
        stream.set_read_timeout(Some(PATIENT)).unwrap();
    }
    let sent: Vec<u8> = (0..4_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let back = sent.clone();
    let echo = std::thread::spawn(move || {
        let mut got = vec![0; back.len()];
        accepted.read_exact(&mut got).unwrap();
        assert!(got == back, "bytes changed on the way");
        accepted.write_all(&got).unwrap();
        accepted
    });
    stream.write_all(&sent).unwrap();
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == sent, "bytes changed on the way back");
    drop(echo.join().unwrap());
    drop(stream);

    // ICMP.
    nets.client.sh(&format!(
        "! command -v ping >/dev/null || ping -c 1 -W 5 {address}"
    ));
    // The pod's new address works at the same time.
    let listener = nets.b.run(|| TcpListener::bind("0.0.0.0:7002").unwrap());
    let stream = nets
        .client
        .run(|| TcpStream::connect("10.2.0.2:7002").unwrap());
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer, stream.local_addr().unwrap());
}

#[test]
fn packets_for_the_old_addresses_reach_pod_b() {
    if unable() {
        return;
    }
    for address in [OLD4, OLD6] {
        let nets = Nets::new();
        let before = nets.b.state();
        carries(&nets, address);
        let pod = nets.b.pod();
        for _ in 0..2 {
            pod.drop_route(Route::FIRST, &old()).unwrap();
        }
        nets.b.state().assert_same(&before);
    }
}

#[test]
fn strict_source_checks_do_not_matter() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    for net in [&nets.a, &nets.b] {
        net.sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done");
    }
    carries(&nets, OLD4);
}

#[test]
fn new_connections_of_pod_b_use_its_new_address() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let _pump = handed_over(&nets);
    let own = nets.b.pod().addresses().unwrap();
    assert!(own.iter().all(|address| !old().contains(address)));
    for (any, target) in [("0.0.0.0:0", "10.9.0.2:1"), ("[::]:0", "[fd00:9::2]:1")] {
        let local = nets.b.run(move || {
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(target).unwrap();
            socket.local_addr().unwrap().ip()
        });
        assert!(own.contains(&local), "{local}");
    }
}

#[test]
fn only_the_old_addresses_come_out_of_the_tun() {
    if unable() {
        return;
    }
    let nets = Nets::new();
    let a = nets.a.pod();
    a.prepare_source(&old()).unwrap();
    let mut tun = std::fs::File::from(a.open_tun(Tun::Source).unwrap());
    a.lock_source(&old()).unwrap();
    let listener = nets.client.run(|| UdpSocket::bind("0.0.0.0:4000").unwrap());
    listener.set_read_timeout(Some(PATIENT)).unwrap();
    for (source, payload) in [([10, 7, 7, 7], b'n'), ([10, 1, 0, 2], b'y')] {
        tun.write_all(&datagram(source, [10, 9, 0, 2], 4000, payload))
            .unwrap();
    }
    let mut byte = [0];
    let (_, peer) = again(|| listener.recv_from(&mut byte)).unwrap();
    assert_eq!((byte[0], peer.ip().to_string().as_str()), (b'y', OLD4));
}

/// An IPv4 UDP datagram without UDP checksum.
fn datagram(from: [u8; 4], to: [u8; 4], port: u16, payload: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from);
    packet.extend(to);
    let mut sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet.extend(5000u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0, 9, 0, 0, payload]);
    packet
}

//! Both pods on one Ethernet, as with macvlan or one bridge for all nodes.

use crate::pump::Pump;
use crate::support::{Net, OLD4, old, unable};
use mycedrive_connection::{Route, Tun};
use std::net::{IpAddr, TcpListener, TcpStream};

#[test]
fn the_old_pod_goes_on_answering_arp() {
    if unable() {
        return;
    }
    let (bridge, client, a, b) = (Net::new(), Net::new(), Net::new(), Net::new());
    bridge.sh("ip link add br0 type bridge mcast_snooping 0; ip link set br0 up");
    for (name, address, net) in [("a", 2, &a), ("b", 3, &b), ("c", 9, &client)] {
        net.attach(&bridge, &format!("to-{name}"));
        bridge.sh(&format!("ip link set to-{name} master br0"));
        net.sh(&format!("ip address add 10.1.0.{address}/24 dev eth0"));
    }
    let old4: Vec<IpAddr> = old().into_iter().filter(IpAddr::is_ipv4).collect();
    let before = b.state();
    a.pod().prepare_source(&old4).unwrap();
    let from = a.pod().open_tun(Tun::Source).unwrap();
    a.pod().lock_source(&old4).unwrap();
    b.pod().lock_destination().unwrap();
    b.pod().adopt(Route::FIRST, &old4, None).unwrap();
    let pump = Pump::between(from, b.pod().open_tun(Tun::Route(Route::FIRST)).unwrap());
    b.pod().unlock_destination().unwrap();
    let listener = b.run(|| TcpListener::bind("0.0.0.0:7001").unwrap());
    for _ in 0..3 {
        client.sh("ip neigh flush dev eth0");
        client.run(|| TcpStream::connect((OLD4, 7001)).unwrap());
        listener.accept().unwrap();
        let asked = client.sh("ip neigh show 10.1.0.2");
        assert!(asked.contains(&a.hardware()), "{asked}");
    }
    drop(pump);
    b.pod().drop_route(Route::FIRST, &old4).unwrap();
    b.state().assert_same(&before);
}

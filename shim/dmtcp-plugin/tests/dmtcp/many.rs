//! Many kinds of sockets in a tree of processes.

use crate::client::{Client, Ends, echo};
use crate::moves::{self, World};
use crate::pod::{LONG, python};
use crate::support::{OLD4, OLD6};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

#[test]
fn a_tree_of_processes_keeps_all_its_sockets() {
    let Some(world) = World::new() else { return };
    let target = world
        .nets
        .client
        .run(|| TcpListener::bind("10.9.0.2:7600").unwrap());
    let pod = world.pod();
    let script = world.folder.write("program.py", include_str!("many.py"));
    pod.launch(&[&python(), &script]);
    let (outbound, _) = target.accept().unwrap();
    let mut clients = vec![Client::over(outbound, echo)];
    // Four connections to the listener that two processes share, so that both have some.
    let ports = [
        7000, 7000, 7000, 7000, 7001, 7001, 7003, 7004, 7006, 7007, 7008,
    ];
    for port in ports {
        clients.push(Client::start(
            &world.nets.client,
            &format!("{OLD4}:{port}"),
            echo,
        ));
    }
    clients.push(Client::start(
        &world.nets.client,
        &format!("[{OLD6}]:7005"),
        echo,
    ));
    let ends = Ends::watch(&world.nets.client);
    let all_go_on = |clients: &mut Vec<Client>| {
        for client in &*clients {
            client.goes_on();
        }
        let udp = world
            .nets
            .client
            .run(|| UdpSocket::bind("10.9.0.2:0").unwrap());
        udp.set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let answered = (0..240).any(|_| {
            udp.send_to(b"datagram", (OLD4, 7002)).unwrap();
            udp.recv(&mut [0; 20]).is_ok()
        });
        assert!(answered, "no datagram comes back");
        // New ones are accepted, and go on as well.
        for port in [7000, 7001] {
            let new = Client::start(&world.nets.client, &format!("{OLD4}:{port}"), echo);
            clients.push(new);
        }
    };
    all_go_on(&mut clients);
    assert_eq!(pod.peers(), 2);

    let pod = world.here(pod);
    all_go_on(&mut clients);
    let (pod, _pump) = world.there(pod);
    all_go_on(&mut clients);
    moves::back(&pod);
    all_go_on(&mut clients);
    assert_eq!(ends.seen(), 0, "segments with FIN or RST");
    for client in clients {
        let (answers, longest) = client.finish();
        assert!(answers > 12 && longest < LONG);
    }
}

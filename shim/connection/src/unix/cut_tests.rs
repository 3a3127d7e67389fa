use super::*;
use crate::unix::Process;

fn socket(kind: Kind, name: &str, peer: Option<u32>) -> Socket {
    Socket {
        kind,
        listening: false,
        peer,
        waiting: Vec::new(),
        name: name.as_bytes().to_vec(),
    }
}

fn place(pid: i32, fd: i32) -> Place {
    let process = Process {
        pid,
        inner: pid - 100,
    };
    Place { process, fd }
}

/// Containers by name with their sockets; processes 101, 102, ...
fn members(all: &[(&str, &[u32])]) -> Members {
    let open = all.iter().zip(101..).map(|((name, inodes), pid)| {
        let sockets = inodes
            .iter()
            .zip(3..)
            .map(|(inode, fd)| (*inode, place(pid, fd)));
        let open = Open {
            movable: true,
            sockets: sockets.collect(),
        };
        ((*name).to_owned(), open)
    });
    Members {
        open: open.collect(),
        alone: false,
    }
}

fn look(own: &str, members: &Members, table: &[(u32, Socket)]) -> (Vec<Cut>, Vec<Problem>) {
    cut(own, members, &table.iter().cloned().collect(), |_| {
        Some(b"/run/host.sock".to_vec())
    })
}

#[test]
fn both_ends_of_a_connection_are_found() {
    let members = members(&[("client", &[10, 30, 31]), ("server", &[20, 21])]);
    let mut listener = socket(Kind::Stream, "/shared/s", None);
    listener.listening = true;
    let table = [
        (10, socket(Kind::Stream, "", Some(20))),
        (20, socket(Kind::Stream, "/shared/s", Some(10))),
        (21, listener),
        // Inside of one container: CRIU's.
        (30, socket(Kind::SeqPacket, "", Some(31))),
        (31, socket(Kind::SeqPacket, "", Some(30))),
    ];
    let (cuts, problems) = look("client", &members, &table);
    assert_eq!(problems, []);
    assert_eq!(
        cuts,
        [Cut {
            inode: 10,
            kind: Kind::Stream,
            peer: 20,
            place: place(101, 3),
            link: Link::Pair,
            name: Vec::new(),
            peer_name: b"/shared/s".to_vec(),
        }]
    );
    let (cuts, problems) = look("server", &members, &table);
    assert_eq!(problems, []);
    assert_eq!((cuts[0].inode, cuts[0].peer, cuts.len()), (20, 10, 1));
}

#[test]
fn senders_to_a_datagram_socket_know_where_it_is() {
    let members = members(&[("app", &[10]), ("logger", &[20])]);
    let table = [
        (10, socket(Kind::Datagram, "", Some(20))),
        (20, socket(Kind::Datagram, "/shared/log", None)),
    ];
    let (cuts, problems) = look("app", &members, &table);
    assert_eq!(problems, []);
    assert_eq!(
        cuts[0].link,
        Link::Receiver {
            container: "logger".to_owned(),
            inner: 2,
            fd: 3
        }
    );
    let (cuts, problems) = look("logger", &members, &table);
    assert!(cuts.is_empty() && problems.is_empty());
}

#[test]
fn what_cannot_be_carried_is_named() {
    let mut members = members(&[("app", &[10, 11, 12]), ("other", &[12, 20])]);
    let table = [
        // The other end is in another network namespace.
        (10, socket(Kind::Stream, "", Some(99))),
        // The other end is in this one, and nobody of the pod has it.
        (11, socket(Kind::Stream, "/x", Some(98))),
        (98, socket(Kind::Stream, "", Some(11))),
        (12, socket(Kind::Datagram, "\0shared", None)),
        (20, socket(Kind::Stream, "", None)),
    ];
    let (cuts, problems) = look("app", &members, &table);
    assert!(cuts.is_empty());
    let shown = problems.iter().map(ToString::to_string);
    let shown = shown.collect::<Vec<_>>().join("\n");
    assert_eq!(problems.len(), 3, "{shown}");
    for words in [
        "container app: process 101",
        "/run/host.sock",
        "@shared",
        "containers app and other",
    ] {
        assert!(shown.contains(words), "{shown}");
    }

    let mut listener = socket(Kind::Stream, "/shared/s", None);
    listener.listening = true;
    listener.waiting = vec![20];
    let (_, problems) = look("app", &members, &[(10, listener), table[4].clone()]);
    assert!(matches!(&problems[..], [Problem::NotAccepted { other, .. }] if other == "other"));

    let pair = [
        (10, socket(Kind::Stream, "", Some(20))),
        (20, socket(Kind::Stream, "", Some(10))),
    ];
    members.open.get_mut("other").unwrap().movable = false;
    let (_, problems) = look("app", &members, &pair);
    assert!(matches!(problems[..], [Problem::OtherEngine { .. }]));
}

#[test]
fn a_container_by_itself_cannot_keep_its_connections() {
    let mut members = members(&[("app", &[10, 11])]);
    members.alone = true;
    let table = [
        (10, socket(Kind::Stream, "", Some(20))),
        (20, socket(Kind::Stream, "/shared/s", Some(10))),
        // CRIU connects it to its name again.
        (11, socket(Kind::Datagram, "", Some(21))),
        (21, socket(Kind::Datagram, "/shared/log", None)),
    ];
    let (cuts, problems) = look("app", &members, &table);
    assert!(cuts.is_empty());
    assert!(matches!(&problems[..], [Problem::Alone { path, .. }] if path == "/shared/s"));
}

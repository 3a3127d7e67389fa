//! Unix sockets between two containers, which are this process here: saved as they are in pod A, made
//! again in pod B.

use crate::support::{Net, unable};
use mycedrive_connection::Error;
use mycedrive_connection::unix::{Cut, Ends, Kind, Link, Place, Process, Saved, save};
use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept,
    bind, connect, getpeername, getsockname, getsockopt, listen, recv, recvfrom, recvmsg, send,
    sendto, socket, socketpair, sockopt,
};
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

fn own() -> Process {
    let pid = std::process::id() as i32;
    // As if the container numbered it 5.
    Process { pid, inner: 5 }
}

fn locate(container: &str, inner: i32) -> Option<i32> {
    (["one", "two"].contains(&container) && inner == 5).then(|| own().pid)
}

fn inode(fd: &OwnedFd) -> u32 {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::metadata(path).unwrap().ino() as u32
}

fn cut(fd: &OwnedFd, kind: Kind, peer: u32, link: Link) -> Cut {
    Cut {
        inode: inode(fd),
        kind,
        peer,
        place: Place {
            process: own(),
            fd: fd.as_raw_fd(),
        },
        link,
        name: Vec::new(),
        peer_name: Vec::new(),
    }
}

fn save_pair(one: &OwnedFd, two: &OwnedFd, kind: Kind) -> Vec<(String, Saved)> {
    let halves = [
        ("one", cut(one, kind, inode(two), Link::Pair)),
        ("two", cut(two, kind, inode(one), Link::Pair)),
    ];
    let saved = halves.map(|(name, cut)| {
        let saved = save(name, &[cut]).unwrap();
        // As it travels.
        (name.to_owned(), Saved::decode(&saved.encode()).unwrap())
    });
    saved.into()
}

/// What the plugin does.
fn fetch(net: &Net, name: &str, inode: u32) -> Option<OwnedFd> {
    let name = name.to_owned();
    net.run(move || {
        let flags = SockFlag::SOCK_CLOEXEC;
        let asker = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        connect(asker.as_raw_fd(), &address).ok()?;
        send(asker.as_raw_fd(), &inode.to_le_bytes(), MsgFlags::empty()).unwrap();
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let mut control = cmsg_space!([RawFd; 1]);
        let fd = asker.as_raw_fd();
        let got = recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::empty()).unwrap();
        match got.cmsgs().unwrap().next()? {
            // SAFETY: the kernel has just opened it for this process.
            ControlMessageOwned::ScmRights(fds) => Some(unsafe { OwnedFd::from_raw_fd(fds[0]) }),
            _ => None,
        }
    })
}

fn receive(fd: &OwnedFd) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).unwrap();
    buffer.truncate(length);
    buffer
}

fn nothing(fd: &OwnedFd) -> bool {
    recv(fd.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) == Err(nix::Error::EAGAIN)
}

fn say(fd: &OwnedFd, message: &[u8]) {
    assert_eq!(
        send(fd.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT),
        Ok(message.len())
    );
}

/// Works as another user, in this thread only.
fn as_user<T>(id: libc::c_long, work: impl FnOnce() -> T) -> T {
    let set = |call, id: libc::c_long| {
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::syscall(call, -1, id, -1) }, 0);
    };
    set(libc::SYS_setresgid, id + 1);
    set(libc::SYS_setresuid, id);
    let result = work();
    set(libc::SYS_setresuid, 0);
    set(libc::SYS_setresgid, 0);
    result
}

/// A connection of user 1000 to a server of user 1001.
fn connection(path: &Path, kind: SockType) -> (OwnedFd, OwnedFd) {
    let new = || socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let (listener, client) = (new(), new());
    let address = UnixAddr::new(path).unwrap();
    bind(listener.as_raw_fd(), &address).unwrap();
    std::os::unix::fs::chown(path, Some(1000), Some(1001)).unwrap();
    std::os::unix::fs::chown(path.parent().unwrap(), Some(1000), Some(1001)).unwrap();
    as_user(1001, || {
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
    });
    as_user(1000, || connect(client.as_raw_fd(), &address).unwrap());
    // SAFETY: just opened.
    let server = unsafe { OwnedFd::from_raw_fd(accept(listener.as_raw_fd()).unwrap()) };
    (server, client)
}

#[test]
fn connections_go_on_where_they_were() {
    if unable() {
        return;
    }
    for (kind, number) in [
        (Kind::Stream, SockType::Stream),
        (Kind::SeqPacket, SockType::SeqPacket),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (server, client) = connection(&folder.path().join("s"), number);
        say(&server, b"to the client");
        say(&client, b"first");
        say(&client, &vec![7; 100_000]);
        let images = save_pair(&server, &client, kind);

        let net = Net::new();
        let ends = Ends::make(&net.pod(), images).unwrap();
        let new_client = fetch(&net, ends.name(), inode(&client)).unwrap();
        assert!(
            ends.finish(&locate).is_err(),
            "the server has not got its end"
        );
        let new_server = fetch(&net, ends.name(), inode(&server)).unwrap();
        assert!(
            fetch(&net, ends.name(), inode(&server)).is_none(),
            "given once"
        );
        assert!(fetch(&net, ends.name(), 1).is_none());
        ends.finish(&locate).unwrap();
        let name = ends.name().to_owned();
        drop(ends);
        assert!(fetch(&net, &name, inode(&client)).is_none());

        // The old ones have not noticed anything.
        for (server, client) in [(&server, &client), (&new_server, &new_client)] {
            assert_eq!(receive(client), b"to the client");
            if kind == Kind::SeqPacket {
                assert_eq!(receive(server), b"first");
                assert_eq!(receive(server), vec![7; 100_000]);
            } else {
                assert_eq!(receive(server), [&b"first"[..], &vec![7; 100_000]].concat());
            }
            assert!(nothing(client) && nothing(server));
            say(client, b"and on");
            assert_eq!(receive(server), b"and on");
            let ids = |fd| getsockopt(fd, sockopt::PeerCredentials).unwrap();
            assert_eq!((ids(server).uid(), ids(server).gid()), (1000, 1001));
            assert_eq!((ids(client).uid(), ids(client).gid()), (1001, 1002));
        }
        drop(new_client);
        assert_eq!(receive(&new_server), b"", "the shim keeps no end");
    }
}

#[test]
fn datagrams_of_a_pair_go_on() {
    if unable() {
        return;
    }
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, two) = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).unwrap();
    say(&one, b"a");
    say(&one, b"");
    say(&two, b"b");
    let images = save_pair(&one, &two, Kind::Datagram);
    let net = Net::new();
    let ends = Ends::make(&net.pod(), images).unwrap();
    let new = [&one, &two].map(|old| fetch(&net, ends.name(), inode(old)).unwrap());
    ends.finish(&locate).unwrap();
    assert_eq!([receive(&new[1]), receive(&new[1])], [&b"a"[..], b""]);
    assert_eq!(receive(&new[0]), b"b");
    assert!(nothing(&new[0]) && nothing(&new[1]));
}

fn datagram_socket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None).unwrap()
}

/// A client with a name, which the server answers to, and one without; the server's socket is
/// CRIU's.
#[test]
fn datagram_sockets_find_their_receiver_again() {
    if unable() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server_path = folder.path().join("server");
    let client_path = folder.path().join("client");
    let hidden = [&[0][..], b"hidden"].concat();
    for removed in [false, true] {
        let _ = std::fs::remove_file(&server_path);
        let server = datagram_socket();
        bind(server.as_raw_fd(), &UnixAddr::new(&server_path).unwrap()).unwrap();
        let clients = [datagram_socket(), datagram_socket(), datagram_socket()];
        let _ = std::fs::remove_file(&client_path);
        bind(
            clients[0].as_raw_fd(),
            &UnixAddr::new(&client_path).unwrap(),
        )
        .unwrap();
        bind(
            clients[1].as_raw_fd(),
            &UnixAddr::new_abstract(&hidden[1..]).unwrap(),
        )
        .unwrap();
        for client in &clients {
            connect(client.as_raw_fd(), &UnixAddr::new(&server_path).unwrap()).unwrap();
        }
        std::os::unix::fs::chown(&client_path, Some(7), Some(8)).unwrap();
        let answer = |from: &OwnedFd, to: &UnixAddr, text: &[u8]| {
            sendto(from.as_raw_fd(), text, to, MsgFlags::MSG_DONTWAIT).unwrap();
        };
        answer(&server, &UnixAddr::new(&client_path).unwrap(), b"one");
        answer(&server, &UnixAddr::new(&client_path).unwrap(), b"two");
        answer(
            &server,
            &UnixAddr::new_abstract(&hidden[1..]).unwrap(),
            b"three",
        );

        // What CRIU makes of the server in pod B.
        let net = Net::new();
        let path = server_path.clone();
        let fresh = net.run(move || {
            std::fs::remove_file(&path).unwrap();
            let server = datagram_socket();
            bind(server.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
            if removed {
                std::fs::remove_file(&path).unwrap();
            }
            server
        });
        let names = [client_path.as_os_str().as_encoded_bytes(), &hidden, &[]];
        let cuts = clients.iter().zip(names).map(|(client, name)| {
            let link = Link::Receiver {
                container: "two".to_owned(),
                inner: 5,
                fd: fresh.as_raw_fd(),
            };
            let mut cut = cut(client, Kind::Datagram, inode(&server), link);
            cut.name = name.to_vec();
            cut.peer_name = server_path.as_os_str().as_encoded_bytes().to_vec();
            cut
        });
        let saved = save("one", &cuts.collect::<Vec<_>>()).unwrap();
        let saved = Saved::decode(&saved.encode()).unwrap();
        // A pod's file system is another one; here the abstract name is taken, too, but in A's network.
        let images = vec![
            ("one".to_owned(), saved),
            ("two".to_owned(), Saved::default()),
        ];
        let ends = Ends::make(&net.pod(), images).unwrap();
        let new = clients
            .each_ref()
            .map(|old| fetch(&net, ends.name(), inode(old)).unwrap());
        ends.finish(&locate).unwrap();

        assert_eq!([receive(&new[0]), receive(&new[0])], [b"one", b"two"]);
        let mut buffer = [0; 10];
        let (length, from) = recvfrom::<UnixAddr>(new[1].as_raw_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"three");
        assert_eq!(from.unwrap().path(), Some(server_path.as_path()));
        for client in &new {
            say(client, b"hello");
            let (_, from) = recvfrom::<UnixAddr>(fresh.as_raw_fd(), &mut buffer).unwrap();
            let own: UnixAddr = getsockname(client.as_raw_fd()).unwrap();
            assert_eq!(
                from.and_then(|from| from.path().map(Path::to_owned)),
                own.path().map(Path::to_owned)
            );
            let peer: UnixAddr = getpeername(client.as_raw_fd()).unwrap();
            assert_eq!(peer.path(), Some(server_path.as_path()));
        }
        let file = std::fs::symlink_metadata(&client_path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!((file.uid(), file.gid()), (7, 8));
        // Nothing of the old ones was changed: those messages are there still.
        assert_eq!(
            [receive(&clients[0]), receive(&clients[0])],
            [b"one", b"two"]
        );
    }
}

#[test]
fn ends_that_do_not_fit_are_refused() {
    if unable() {
        return;
    }
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, two) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let images = save_pair(&one, &two, Kind::SeqPacket);
    let (kept, net) = (images.clone(), Net::new());
    let refused = |images: Vec<(String, Saved)>| {
        let error = Ends::make(&net.pod(), images).unwrap_err();
        assert!(matches!(error, Error::End { .. }), "{error}");
    };
    refused(vec![images[0].clone()]);
    refused(vec![images[0].clone(), images[0].clone()]);
    // Both in one container: CRIU's own.
    let mut both = images[0].1.clone();
    both.halves.extend(images[1].1.halves.clone());
    refused(vec![("one".to_owned(), both)]);
    let mut other = images.clone();
    other[1].1.halves[0].kind = Kind::Stream;
    refused(other);
    let mut other = images;
    other[1].1.halves[0].peer = 1;
    refused(other);
    Ends::make(&net.pod(), kept).unwrap();
}

/// Somebody else's descriptor is not given away, and a descriptor in a message is no message.
#[test]
fn descriptors_in_messages_are_refused() {
    if unable() {
        return;
    }
    use nix::sys::socket::{ControlMessage, sendmsg};
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, two) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"x").unwrap();
    let fds = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let parts = [std::io::IoSlice::new(b"x")];
    sendmsg::<()>(one.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
    let refused = save("two", &[cut(&two, Kind::Stream, inode(&one), Link::Pair)]);
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("container two") && message.contains("descriptors"),
        "{message}"
    );
}

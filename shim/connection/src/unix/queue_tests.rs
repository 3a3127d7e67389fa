use super::*;
use nix::sys::socket::{
    AddressFamily, ControlMessage, SockFlag, SockType, recv, send, setsockopt, socketpair,
    sockopt::PassCred,
};

fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

fn unread(socket: &OwnedFd, kind: Kind) -> Vec<Vec<u8>> {
    match peek(socket, kind).unwrap() {
        Unread::Messages(messages) => messages.into_iter().map(|one| one.bytes).collect(),
        Unread::Not(what) => panic!("{what}"),
    }
}

#[test]
fn messages_keep_their_boundaries_and_stay() {
    for (kind, number) in [
        (Kind::SeqPacket, SockType::SeqPacket),
        (Kind::Datagram, SockType::Datagram),
    ] {
        let (a, b) = pair(number);
        let sent = [&b"one"[..], b"", b"three"];
        for message in sent {
            send(a.as_raw_fd(), message, MsgFlags::empty()).unwrap();
        }
        assert_eq!(unread(&b, kind), sent);
        let mut buffer = [0; 10];
        for message in sent {
            let length = recv(b.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
            assert_eq!(&buffer[..length], message);
        }
        assert!(unread(&b, kind).is_empty());
    }
}

#[test]
fn a_stream_is_seen_whole_also_behind_its_end() {
    let (a, b) = pair(SockType::Stream);
    for piece in [vec![1; 100_000], vec![2; 50]] {
        send(a.as_raw_fd(), &piece, MsgFlags::empty()).unwrap();
    }
    drop(a);
    for _ in 0..2 {
        let all = unread(&b, Kind::Stream).concat();
        assert_eq!(all.len(), 100_050);
        assert_eq!(all[100_000..], [2; 50]);
    }
}

#[test]
fn the_end_of_messages_is_no_message() {
    let (a, b) = pair(SockType::SeqPacket);
    send(a.as_raw_fd(), b"last", MsgFlags::empty()).unwrap();
    drop(a);
    assert_eq!(unread(&b, Kind::SeqPacket), [b"last"]);
}

#[test]
fn a_programs_own_offset_stays() {
    let (a, b) = pair(SockType::Stream);
    send(a.as_raw_fd(), b"abcdef", MsgFlags::empty()).unwrap();
    sockopt::set(&b, libc::SOL_SOCKET, SO_PEEK_OFF, &3_i32).unwrap();
    assert_eq!(unread(&b, Kind::Stream), [b"abcdef"]);
    let mut buffer = [0; 10];
    let length = recv(b.as_raw_fd(), &mut buffer, MsgFlags::MSG_PEEK).unwrap();
    assert_eq!(&buffer[..length], b"def");
}

#[test]
fn descriptors_and_credentials_are_seen_and_not_taken() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (a, b) = pair(SockType::SeqPacket);
    let rights = [a.as_raw_fd()];
    sendmsg::<()>(
        a.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    let before = open();
    assert!(matches!(peek(&b, Kind::SeqPacket).unwrap(), Unread::Not(_)));
    // Other tests open some, too, but not hundreds.
    for _ in 0..300 {
        peek(&b, Kind::SeqPacket).unwrap();
    }
    assert!(open() < before + 200);

    let (a, b) = pair(SockType::Stream);
    setsockopt(&b, PassCred, &true).unwrap();
    send(a.as_raw_fd(), b"x", MsgFlags::empty()).unwrap();
    assert!(matches!(peek(&b, Kind::Stream).unwrap(), Unread::Not(_)));
}

#[test]
fn a_queue_can_be_filled_again() {
    let messages = [b"one".to_vec(), Vec::new(), vec![3; 1000]];
    let (a, b) = pair(SockType::SeqPacket);
    fill(&a, &messages, None).unwrap();
    assert_eq!(unread(&b, Kind::SeqPacket), messages);
    let (a, _b) = pair(SockType::Stream);
    assert!(fill(&a, &[vec![0; 10 << 20]], None).is_err());
}

use super::*;
use crate::Error;
use crate::repair::options;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| (Ipv4Addr::from(ip), port).into()),
        (any::<[u8; 16]>(), any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
            |(ip, port, flow, scope)| {
                SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into()
            }
        ),
    ]
}

fn queue() -> impl Strategy<Value = Queue> {
    (any::<u32>(), vec(any::<u8>(), 0..200)).prop_map(|(end, bytes)| Queue { end, bytes })
}

fn connection() -> impl Strategy<Value = Connection> {
    let numbers = [1u8, 4, 5, 8, 9, 11];
    let scales = (0u8..=14, 0u8..=14).prop_map(|(send, receive)| Scales { send, receive });
    (
        (
            address(),
            address(),
            prop::sample::select(numbers.to_vec()),
            any::<bool>(),
        ),
        (queue(), queue(), any::<prop::sample::Index>()),
        (
            any::<[u32; 5]>(),
            any::<u32>(),
            of(scales),
            any::<bool>(),
            of(any::<u32>()),
        ),
    )
        .prop_map(|(ends, (receive, send, unsent), rest)| Connection {
            local: ends.0,
            peer: ends.1,
            phase: Phase::from_number(ends.2).unwrap(),
            reading_shut: ends.3,
            receive,
            unsent: unsent.index(send.bytes.len() + 1) as u32,
            send,
            window: rest.0,
            mss: rest.1,
            scales: rest.2,
            sack: rest.3,
            timestamp: rest.4,
        })
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Fresh),
        address().prop_map(State::Bound),
        (address(), any::<u32>()).prop_map(|(local, backlog)| State::Listening { local, backlog }),
        (address(), address(), any::<u32>()).prop_map(|(local, peer, first)| State::Connecting {
            local,
            peer,
            first
        }),
        connection().prop_map(|it| State::Connected(Box::new(it))),
        (vec(any::<u8>(), 0..50), any::<bool>())
            .prop_map(|(bytes, by_reset)| State::Ended(Ended { bytes, by_reset })),
        (of(address()), of(address())).prop_map(|(local, peer)| State::Datagram { local, peer }),
    ]
}

fn socket() -> impl Strategy<Value = Socket> {
    // The options of a real socket, so that all are of the table.
    let real = options::read(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let options = prop::sample::subsequence(real.clone(), 0..=real.len());
    let domain = prop::sample::select(vec![libc::AF_INET, libc::AF_INET6]);
    (
        domain,
        any::<[i32; 2]>(),
        any::<bool>(),
        any::<u32>(),
        options,
        state(),
    )
        .prop_map(
            |(domain, [kind, protocol], nonblocking, owner, options, state)| Socket {
                domain,
                kind,
                protocol,
                nonblocking,
                owner,
                options,
                state,
            },
        )
}

fn saved() -> impl Strategy<Value = Saved> {
    (vec(any::<[u8; 16]>(), 0..4), vec(socket(), 0..6))
        .prop_map(|(tokens, sockets)| Saved { tokens, sockets })
}

proptest! {
    #[test]
    fn saved_sockets_come_back(saved in saved()) {
        let bytes = saved.encode();
        prop_assert_eq!(Saved::decode(&bytes).unwrap(), saved);
    }

    #[test]
    fn every_cut_is_noticed(saved in saved(), at in any::<prop::sample::Index>()) {
        let bytes = saved.encode();
        let at = at.index(bytes.len());
        let is_saved = matches!(Saved::decode(&bytes[..at]), Err(Error::Saved { .. }));
        prop_assert!(is_saved);
        let longer = [&bytes[..], &[0]].concat();
        prop_assert!(Saved::decode(&longer).is_err());
    }

    /// Changed bytes are refused, or are what would have been written.
    #[test]
    fn changes_are_noticed_or_mean_something(
        saved in saved(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = saved.encode();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Ok(other) = Saved::decode(&bytes) {
            prop_assert!(other.encode() == bytes);
        }
    }

    #[test]
    fn garbage_does_no_harm(rest in vec(any::<u8>(), 0..400)) {
        let _ = Saved::decode(&rest);
        let _ = Saved::decode(&[&b"MYCESOCK\x01\x00"[..], &rest].concat());
    }
}

/// A length is believed only as far as there are bytes.
#[test]
fn huge_counts_cost_nothing() {
    let bytes = [&b"MYCESOCK\x01\x00"[..], &[0xff; 4], &[0; 64]].concat();
    let refused = Saved::decode(&bytes);
    assert!(
        matches!(
            refused,
            Err(Error::Saved {
                what: "cut short",
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn says_what_is_wrong() {
    for (bytes, what) in [
        (&b"MYCESOCX\x01\x00"[..], "not a file of saved sockets"),
        (b"MYCESOCK\x02\x00", "made by another version"),
        (b"MYCE", "cut short"),
    ] {
        let error = Saved::decode(bytes).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

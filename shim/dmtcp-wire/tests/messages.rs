//! Every message comes back as it was; nothing else is taken for one.

#![allow(clippy::unwrap_used)]

use mycedrive_dmtcp_wire::{BATCH, Ids, MAX_MESSAGE, Malformed, Reply, Request};
use proptest::collection::vec;
use proptest::prelude::*;

fn ids() -> impl Strategy<Value = Ids> {
    vec(any::<u32>(), 0..=BATCH).prop_map(|all| {
        let mut ids = Ids::new();
        for id in all {
            ids.push(id).unwrap();
        }
        ids
    })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<bool>().prop_map(|held| Request::Checkpoint { held }),
        (1..=BATCH as u16).prop_map(|count| Request::Sockets { count }),
        Just(Request::Saved),
        Just(Request::Held),
        any::<[u8; 16]>().prop_map(|token| Request::Restart { token }),
        ids().prop_map(Request::Want),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Nothing),
        Just(Reply::Save),
        ids().prop_map(Reply::Known),
        any::<[u8; 16]>().prop_map(Reply::Token),
        Just(Reply::Go),
        Just(Reply::Welcome),
        ids().prop_map(Reply::Have),
        Just(Reply::Refused),
    ]
}

proptest! {
    #[test]
    fn a_request_comes_back(request in request()) {
        let packet = request.encode();
        prop_assert_eq!(Request::decode(packet.bytes()), Ok(request));
        for end in 0..packet.bytes().len() {
            prop_assert_eq!(Request::decode(&packet.bytes()[..end]), Err(Malformed));
        }
        let longer = [packet.bytes(), &[0]].concat();
        prop_assert_eq!(Request::decode(&longer), Err(Malformed));
    }

    #[test]
    fn a_reply_comes_back(reply in reply()) {
        let packet = reply.encode();
        prop_assert_eq!(Reply::decode(packet.bytes()), Ok(reply));
        for end in 0..packet.bytes().len() {
            prop_assert_eq!(Reply::decode(&packet.bytes()[..end]), Err(Malformed));
        }
        let longer = [packet.bytes(), &[0]].concat();
        prop_assert_eq!(Reply::decode(&longer), Err(Malformed));
    }

    /// Whatever is accepted is exactly what would have been sent.
    #[test]
    fn garbage_is_refused_or_is_a_message(bytes in vec(any::<u8>(), 0..MAX_MESSAGE + 8)) {
        if let Ok(request) = Request::decode(&bytes) {
            prop_assert!(request.encode().bytes() == bytes);
        }
        if let Ok(reply) = Reply::decode(&bytes) {
            prop_assert!(reply.encode().bytes() == bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_message(
        request in request(), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let mut bytes = request.encode().bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(other) = Request::decode(&bytes) {
            prop_assert!(other.encode().bytes() == bytes);
        }
    }
}

#[test]
fn another_version_is_refused() {
    assert_eq!(Request::decode(&[1, 2, 0, 0]), Err(Malformed));
    assert_eq!(
        Request::decode(&[1, 1, 0, 0]),
        Ok(Request::Checkpoint { held: false })
    );
}

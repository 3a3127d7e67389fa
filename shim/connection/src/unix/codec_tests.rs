use super::*;
use crate::Error;
use proptest::prelude::*;

fn sample() -> Saved {
    let plain = Half {
        inode: 7,
        kind: Kind::SeqPacket,
        peer: 8,
        link: Link::Pair,
        inner: 1,
        bound: None,
        peer_ids: Some((1000, 1001)),
        unread: vec![b"one".to_vec(), Vec::new(), vec![9; 5000]],
    };
    let sender = Half {
        inode: 9,
        kind: Kind::Datagram,
        peer: 10,
        link: Link::Receiver {
            container: "logger".to_owned(),
            inner: 12,
            fd: 3,
        },
        inner: 4,
        bound: Some(Bound {
            name: b"client".to_vec(),
            file: Some(SocketFile {
                folder: Some(b"/shared/".to_vec()),
                mode: 0o755,
                owner: 3,
                group: 4,
                removed: true,
            }),
        }),
        peer_ids: None,
        unread: Vec::new(),
    };
    let mut hidden = sender.clone();
    hidden.bound = Some(Bound {
        name: b"\0hidden\0".to_vec(),
        file: None,
    });
    Saved {
        halves: vec![plain, sender, hidden],
    }
}

#[test]
fn nothing_is_lost() {
    assert_eq!(decode(&encode(&sample())).unwrap(), sample());
    assert_eq!(
        decode(&encode(&Saved::default())).unwrap(),
        Saved::default()
    );
}

#[test]
fn every_cut_is_refused() {
    let whole = encode(&sample());
    for length in 0..whole.len() {
        let refused = decode(&whole[..length]);
        assert!(matches!(refused, Err(Error::Saved { .. })), "{length}");
    }
    assert!(decode(&[whole, vec![0]].concat()).is_err());
}

/// A change of the one value must make the bytes unacceptable.
fn refused(change: impl FnOnce(&mut Half)) {
    let mut saved = sample();
    change(&mut saved.halves[1]);
    assert!(decode(&encode(&saved)).is_err());
}

#[test]
fn what_no_source_writes_is_refused() {
    let file = |half: &mut Half| half.bound.as_mut().unwrap().file.clone().unwrap();
    refused(|half| half.inner = 0);
    refused(|half| half.kind = Kind::Stream);
    refused(|half| half.bound.as_mut().unwrap().name = vec![b'x'; 108]);
    refused(|half| half.bound.as_mut().unwrap().name = b"a\0b".to_vec());
    refused(|half| half.bound.as_mut().unwrap().name = Vec::new());
    refused(|half| half.bound.as_mut().unwrap().file = None);
    refused(|half| half.bound.as_mut().unwrap().name = b"\0x".to_vec());
    refused(|half| {
        let mut file = file(half);
        file.folder = Some(b"shared".to_vec());
        half.bound.as_mut().unwrap().file = Some(file);
    });
    refused(|half| {
        half.link = Link::Receiver {
            container: "x".repeat(256),
            inner: 1,
            fd: 1,
        };
    });
}

proptest! {
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), whole: bool) {
        if whole {
            bytes.splice(0..0, [&MAGIC[..], &VERSION.to_le_bytes()].concat());
        }
        let _ = decode(&bytes);
    }

    #[test]
    fn any_damage_is_survived(at in 0usize..6000, value: u8) {
        let mut bytes = encode(&sample());
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(saved) = decode(&bytes) {
            prop_assert_eq!(encode(&saved).len(), bytes.len());
        }
    }
}

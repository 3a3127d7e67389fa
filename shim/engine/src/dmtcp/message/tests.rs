use super::*;

fn answer(dialect: Dialect) -> [u8; LENGTH] {
    let mut bytes = dialect.encode(Command::Status);
    bytes[TYPE_AT..TYPE_AT + 4].copy_from_slice(&(dialect.request_type() + 1).to_ne_bytes());
    bytes[PEERS_AT..PEERS_AT + 4].copy_from_slice(&3u32.to_ne_bytes());
    bytes[RUNNING_AT..RUNNING_AT + 4].copy_from_slice(&1u32.to_ne_bytes());
    bytes
}

#[test]
fn versions_have_dialects() {
    assert_eq!(Dialect::of("4.1.1"), Dialect::Letters);
    assert_eq!(Dialect::of("4.2.0-rc1"), Dialect::Letters);
    assert_eq!(Dialect::of("5.0"), Dialect::Numbers);
}

#[test]
fn an_answer_is_read() {
    for dialect in [Dialect::Letters, Dialect::Numbers] {
        let read = dialect.decode(&answer(dialect)).unwrap();
        assert_eq!((read.peers, read.running, read.done), (3, true, true));
    }
}

#[test]
fn hostile_answers_are_refused() {
    let good = answer(Dialect::Numbers);
    assert!(Dialect::Letters.decode(&good).is_err());
    for at in [0, SIZE_AT, TYPE_AT] {
        let mut bad = good;
        bad[at] ^= 0x55;
        assert!(Dialect::Numbers.decode(&bad).is_err(), "byte {at}");
    }
    let mut long = good;
    long[EXTRA_AT..EXTRA_AT + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(Dialect::Numbers.decode(&long).is_err());
}

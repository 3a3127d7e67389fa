use super::*;
use crate::lock;

/// The kinds of the messages, in order.
fn kinds(changes: &[Message]) -> Vec<u16> {
    let kind = |message: &Message| {
        let bytes = message.clone().finish(0);
        u16::from_ne_bytes([bytes[4], bytes[5]])
    };
    changes.iter().map(kind).collect()
}

#[test]
fn only_what_is_there_is_deleted() {
    let table = lock::destination(None);
    let first = kinds(&changes(&table, false));
    assert_eq!(first[..2], [NEW_TABLE, NEW_CHAIN]);
    assert!(!first.contains(&DELETE_TABLE));
    let again = kinds(&changes(&table, true));
    assert_eq!(again[..3], [NEW_TABLE, DELETE_TABLE, NEW_TABLE]);
    assert_eq!(again[2..], first);
}

use super::*;

#[test]
fn attributes_are_padded_and_nests_get_their_length() {
    let message = Message::new(16, 1, &[7, 0, 0, 0])
        .attribute(3, b"abcde")
        .nest(26, |m| m.number_be(1, 0x0102_0304).string(2, "x"));
    let bytes = message.finish(9);
    assert_eq!(bytes.len() % 4, 0);
    let replies = split(&bytes).unwrap();
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].kind, replies[0].flags), (16, 1));
    assert_eq!(replies[0].sequence, 9);
    let found: Vec<_> = attributes(&replies[0].body[4..]).collect();
    assert_eq!(found[0], (3, &b"abcde"[..]));
    assert_eq!(found[1].0, 26);
    let inner: Vec<_> = attributes(found[1].1).collect();
    assert_eq!(inner, [(1, &[1, 2, 3, 4][..]), (2, &b"x\0"[..])]);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let good = Message::new(16, 0, &[0; 4]).number(1, 5).finish(1);
    for cut in 16..good.len() {
        assert_eq!(split(&good[..cut]), None, "{cut}");
    }
    // Less than a header is the padding that may follow the last message.
    assert_eq!(split(&good[..8]), Some(vec![]));
    let mut zero = good.clone();
    zero[0..4].copy_from_slice(&3u32.to_ne_bytes());
    assert_eq!(split(&zero), None);
    assert_eq!(attributes(&[200, 0, 1, 0, 9]).count(), 0);
    assert_eq!(attributes(&[1, 0, 1, 0]).count(), 0);
    assert_eq!(attributes(&[4, 0, 1, 0]).count(), 1);
}

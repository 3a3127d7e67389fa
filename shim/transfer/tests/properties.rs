//! Random trees, random changes between rounds: everything must arrive exactly.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::script::{Op, Tree, op};
use common::{assert_same, is_root, receive, receiver, send, tempdir, transfer};
use mycedrive_transfer::{Budget, Error, FinalRound, Round, TreeReceiver, TreeSender};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rounds_bring_exactly_the_tree(
        rounds in prop::collection::vec(prop::collection::vec(op(), 1..40), 1..5),
        lost in prop::option::of(0..5_usize),
    ) {
        check(&rounds, lost);
    }
}

/// Runs the operations, a round after each group. The stream of round `lost` breaks off in the
/// middle, so that the next one has to be a full one.
fn check(rounds: &[Vec<Op>], lost: Option<usize>) {
    let (from, to) = (tempdir(), tempdir());
    let tree = Tree::new(from.path());
    let mut sender = TreeSender::new(from.path()).unwrap();
    let mut receiver = receiver(to.path());
    for (number, ops) in rounds.iter().enumerate() {
        for op in ops {
            tree.run(op);
        }
        if lost == Some(number) && number % 2 == 1 {
            // The stream breaks off; the receiver lists what has arrived of it.
            let (stream, _) = send(&mut sender, Round::Live);
            receive(&mut receiver, &stream[..stream.len() / 2]).unwrap_err();
            sender.reset();
            if let Some(list) = mycedrive_transfer::have(to.path(), 1 << 24).unwrap() {
                sender.resume(&list).unwrap();
                receiver = TreeReceiver::listed(to.path(), &Budget::default()).unwrap();
            }
        } else if lost == Some(number) {
            let (stream, _) = send(&mut sender, Round::Live);
            let error = receive(&mut receiver, &stream[..stream.len() / 2]).unwrap_err();
            assert!(matches!(error, Error::Truncated), "{error}");
            let (stream, summary) = send(&mut sender, Round::Live);
            assert!(!summary.full);
            let error = receive(&mut receiver, &stream).unwrap_err();
            assert!(matches!(error, Error::OutOfStep { .. }), "{error}");
            sender.reset();
        }
        let last = FinalRound::default();
        let kind = if number + 1 == rounds.len() {
            Round::Final(&last)
        } else {
            Round::Live
        };
        transfer(&mut sender, &mut receiver, kind);
        assert_same(from.path(), to.path());
    }
    // A fresh sender, and a receiver that has an older tree, or a mixture of several.
    if let Some(list) = mycedrive_transfer::have(to.path(), 1 << 24).unwrap() {
        for op in &rounds[0] {
            tree.run(op);
        }
        let mut fresh = TreeSender::new(from.path()).unwrap();
        fresh.resume(&list).unwrap();
        let mut listed = TreeReceiver::listed(to.path(), &Budget::default()).unwrap();
        assert!(!transfer(&mut fresh, &mut listed, Round::Live).full);
        assert_same(from.path(), to.path());
        transfer(
            &mut fresh,
            &mut listed,
            Round::Final(&FinalRound::default()),
        );
        assert_same(from.path(), to.path());
        receiver = listed;
    }
    // A fresh sender against a receiver that has a tree: a full round.
    let mut fresh = TreeSender::new(from.path()).unwrap();
    assert!(transfer(&mut fresh, &mut receiver, Round::Live).full);
    assert_same(from.path(), to.path());
}

#[test]
fn notice_what_is_not_tested() {
    if !is_root() {
        eprintln!("skipped: ownership, device nodes and trusted.* attributes, because not root");
    }
}

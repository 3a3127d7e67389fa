//! Stacks of random trees: what is folded back is what was seen mounted, and a process that is
//! killed at any step leaves the stack or the plain directory, with all data.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../transfer/tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
mod place;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::script::{Tree, op};
use common::{Snapshot, is_root, set_xattr, snapshot};
use mycedrive_volume::layout::Phase;
use mycedrive_volume::{
    Found, Reason, check, create_checkpoint, end, find, init, layers, mount, receive, recover,
    undisturbed, unmount,
};
use place::{Place, content, ready, received, same, stack_with_changes, with_received};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_seen_is_folded_back(
        before in prop::collection::vec(op(), 0..40),
        live in prop::collection::vec(prop::collection::vec(op(), 0..30), 1..4),
    ) {
        if !is_root() {
            return Ok(());
        }
        let place = Place::new();
        let plain = Tree::new(&place.volume);
        for op in &before {
            plain.run(op);
        }
        match check(&place.volume) {
            Ok(()) => {}
            Err(Reason::HardLink(_) | Reason::Marks(_)) => return Ok(()),
            Err(other) => panic!("{other}"),
        }
        let start = snapshot(&place.volume);
        place.init();
        same(&start, &place.mounted(|_| {}), true);
        let mut seen = start;
        for (number, ops) in live.iter().enumerate() {
            if number > 0 {
                create_checkpoint(&place.volume, &mut undisturbed).unwrap();
            }
            let before = seen;
            seen = place.mounted(|root| {
                same(&before, &snapshot(root), true);
                let tree = Tree::new(root);
                for op in ops {
                    tree.run(op);
                }
            });
        }
        place.end();
        same(&seen, &snapshot(&place.volume), true);
    }
}

/// Runs `work` in a child that is killed before its step number `at`. False: it had fewer.
fn killed_at(at: usize, work: impl FnOnce(&mut dyn FnMut())) -> bool {
    // SAFETY: the child only runs `work` and ends; no lock of this process is needed for that.
    match unsafe { libc::fork() } {
        0 => {
            // What other tests have open would keep their mounts busy.
            // SAFETY: plain numbers; `work` opens what it needs.
            unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
            let mut count = 0;
            work(&mut || {
                if count == at {
                    // SAFETY: plain numbers.
                    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                }
                count += 1;
            });
            // SAFETY: ends the child without the harness's exit handlers.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child that was just made.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            if libc::WIFEXITED(status) {
                assert_eq!(libc::WEXITSTATUS(status), 0, "the child failed");
            }
            libc::WIFSIGNALED(status)
        }
    }
}

/// Kills `work` at every step; each time everything must be there, by recovery and by a fold,
/// also if the recovery itself is killed (at a step that differs each time).
fn at_every_step(
    prepare: impl Fn(&Place) -> Snapshot,
    work: impl Fn(&Path, &mut dyn FnMut()),
) -> usize {
    let mut at = 0;
    loop {
        let place = Place::new();
        let seen = prepare(&place);
        let more = killed_at(at, |steps| work(&place.volume, steps));
        killed_at(at * 7 % 13, |steps| drop(recover(&place.volume, steps)));
        let found = recover(&place.volume, &mut undisturbed).unwrap();
        match found {
            Found::Plain => {}
            Found::Stack(state) => {
                assert_eq!(state.phase, Phase::Stack, "step {at}");
                same(&seen, &place.mounted(|_| {}), false);
            }
            Found::Foreign => panic!("step {at}: the state is lost"),
        }
        place.end();
        same(&seen, &snapshot(&place.volume), false);
        if !more {
            return at;
        }
        at += 1;
    }
}

#[test]
fn init_killed_at_every_step() {
    if !ready() {
        return;
    }
    let prepare = |place: &Place| {
        content(&place.volume);
        snapshot(&place.volume)
    };
    let count = at_every_step(prepare, |volume, steps| init(volume, steps).unwrap());
    eprintln!("init: {count} steps");
    assert!(count > 10);
}

#[test]
fn end_killed_at_every_step() {
    if !ready() {
        return;
    }
    let count = at_every_step(stack_with_changes, |volume, steps| {
        end(volume, steps).unwrap();
    });
    eprintln!("end: {count} steps");
    assert!(count > 40);
}

#[test]
fn checkpoint_killed_at_every_step() {
    if !ready() {
        return;
    }
    let count = at_every_step(stack_with_changes, |volume, steps| {
        create_checkpoint(volume, steps).unwrap();
    });
    eprintln!("create-checkpoint: {count} steps");
    assert!(count > 3);
}

#[test]
fn commit_killed_at_every_step() {
    if !ready() {
        return;
    }
    let mut undone = 0;
    let mut at = 0;
    loop {
        let place = Place::new();
        let seen = with_received(&place);
        let more = killed_at(at, |steps| receive::commit(&place.volume, steps).unwrap());
        let Found::Stack(state) = recover(&place.volume, &mut undisturbed).unwrap() else {
            panic!("step {at}: no stack");
        };
        if state.phase == Phase::Receive {
            // Not decided: the volume is what it was.
            receive::discard(&place.volume).unwrap();
            let kept = fs::read_to_string(place.volume.join("before")).unwrap();
            assert_eq!(kept, "of the volume");
            undone += 1;
        } else {
            same(&seen, &place.mounted(|_| {}), true);
            place.end();
            same(&seen, &snapshot(&place.volume), true);
        }
        if !more {
            break;
        }
        at += 1;
    }
    assert!(undone >= 1 && at > 3, "{undone} of {at}");
}

#[test]
fn many_layers_are_merged() {
    if !ready() {
        return;
    }
    let place = Place::new();
    place.init();
    let mut seen = Snapshot::new();
    for number in 0..80 {
        seen = place.mounted(|root| {
            fs::write(root.join(format!("{number}")), "x").unwrap();
            if number == 0 {
                set_xattr(&root.join("0"), "trusted.overlay.origin", b"own");
            }
            fs::write(root.join("counter"), format!("{number}")).unwrap();
            if number > 2 {
                fs::remove_file(root.join(format!("{}", number - 2))).unwrap();
            }
        });
        create_checkpoint(&place.volume, &mut undisturbed).unwrap();
    }
    let merged = layers(&place.volume).unwrap();
    assert!(merged.len() < 40);
    same(&seen, &place.mounted(|_| {}), true);
    let other = Place::new();
    received(&merged, &other.volume);
    receive::commit(&other.volume, &mut undisturbed).unwrap();
    other.end();
    same(&seen, &snapshot(&other.volume), true);
    place.end();
    same(&seen, &snapshot(&place.volume), true);
}

#[test]
fn what_cannot_be_a_stack_says_why() {
    if !ready() {
        return;
    }
    let place = Place::new();
    let file = place.volume.join("file");
    fs::write(&file, "x").unwrap();
    check(&place.volume).unwrap();
    assert_eq!(fs::read_dir(&place.volume).unwrap().count(), 1);
    fs::hard_link(&file, place.volume.join("link")).unwrap();
    assert!(matches!(check(&place.volume), Err(Reason::HardLink(_))));
    fs::remove_file(&file).unwrap();
    fs::create_dir(place.volume.join(mycedrive_volume::layout::FOLDER)).unwrap();
    assert_eq!(check(&place.volume), Err(Reason::Name));
    assert_eq!(find(&place.volume).unwrap(), Found::Foreign);
    // Content stays content.
    end(&place.volume, &mut undisturbed).unwrap();
    assert!(place.volume.join("link").exists());
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    assert!(matches!(check(memory.path()), Err(Reason::FileSystem(_))));
    let stack = Place::new();
    stack.init();
    stack.mounted(|root| assert!(matches!(check(root), Err(Reason::FileSystem(_)))));
}

/// Processes that this one makes have what it has open, until they run another program.
#[test]
fn processes_that_are_just_made_do_not_matter() {
    if !ready() {
        return;
    }
    let place = Place::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the child sleeps and ends; it touches no memory of this process.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: plain numbers.
                    unsafe {
                        libc::usleep(1000);
                        libc::_exit(0);
                    }
                }
                // SAFETY: waits for the child that was just made.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            }
        });
        let failed = (0..300).find_map(|_| check(&place.volume).err());
        done.store(true, Ordering::Relaxed);
        assert_eq!(failed, None);
    });
}

#[test]
fn a_stack_in_use_is_not_folded() {
    if !ready() {
        return;
    }
    let place = Place::new();
    place.init();
    mount(&place.volume, &place.target).unwrap();
    let held = fs::File::create(place.target.join("open")).unwrap();
    let error = unmount(&place.volume, &place.target).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(held);
    unmount(&place.volume, &place.target).unwrap();
    place.end();
    assert!(place.volume.join("open").exists());
}

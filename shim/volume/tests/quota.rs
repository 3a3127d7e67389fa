//! Project quotas, as kubelet gives them to the directories of emptyDirs: all of a stack is counted, in
//! every state of it, and nothing moves out of the project. Needs a kernel with quotas.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../transfer/tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
mod disk;
mod place;

use std::fs;

use common::snapshot;
use disk::{Container, Disk, run};
use mycedrive_volume::attach::Attached;
use mycedrive_volume::{Found, create_checkpoint, find, mount, receive, undisturbed, unmount};
use place::{changes, content, same, with_received};

#[test]
fn all_of_a_stack_is_in_its_project() {
    for kind in ["ext4", "xfs"] {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let place = disk.place();
        content(&place.volume);
        disk.counted("plain");
        place.init();
        disk.counted("stack");
        place.mounted(|root| {
            disk.counted("mounted");
            let before = disk.project().0;
            changes(root);
            fs::write(root.join("large"), vec![b'x'; 4 << 20]).unwrap();
            disk.counted("changed");
            assert!(disk.project().0 >= before + (4 << 20));
        });
        create_checkpoint(&place.volume, &mut undisturbed).unwrap();
        disk.counted("sealed");
        let seen = place.mounted(|root| {
            fs::rename(root.join("a"), root.join("moved/a")).unwrap();
            fs::remove_file(root.join("large")).unwrap();
            fs::write(root.join("plain-2"), "again").unwrap();
            disk.counted("changed again");
        });
        place.end();
        disk.counted("plain again");
        same(&seen, &snapshot(&place.volume), false);
    }
}

#[test]
fn what_is_received_is_in_the_project() {
    for kind in ["ext4", "xfs"] {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let place = disk.place();
        let seen = with_received(&place);
        disk.counted("received");
        receive::commit(&place.volume, &mut undisturbed).unwrap();
        disk.counted("committed");
        mount(&place.volume, &place.target).unwrap();
        disk.counted("mounted");
        unmount(&place.volume, &place.target).unwrap();
        place.end();
        disk.counted("plain");
        same(&seen, &snapshot(&place.volume), false);
    }
}

/// Content that was there before the directory became a project: it cannot be renamed within it.
#[test]
fn content_of_another_project_stays_plain() {
    for kind in ["ext4", "xfs"] {
        for stray in ["old", "old/deep/er/file", "link"] {
            let Some(disk) = Disk::make(kind) else {
                continue;
            };
            let place = disk.place();
            content(&place.volume);
            let path = place.volume.join(stray);
            if stray == "link" {
                // Nobody can give one a project, or ask it.
                assert!(run("chattr", &["-P"], &[&place.volume]));
                std::os::unix::fs::symlink("kept", &path).unwrap();
                assert!(run("chattr", &["+P"], &[&place.volume]));
            } else {
                assert!(run("chattr", &["-p", "7"], &[&path]));
            }
            let before = snapshot(&place.volume);
            match Container::new().attach(&place.volume).unwrap() {
                Attached::Plain(reason) if stray == "link" => eprintln!("{kind}: {reason}"),
                Attached::Plain(reason) => assert!(reason.contains("project"), "{reason}"),
                Attached::Stack(_) => panic!("{kind}: with {stray} it became a stack"),
            }
            assert_eq!(find(&place.volume).unwrap(), Found::Plain);
            same(&before, &snapshot(&place.volume), false);
        }
    }
}

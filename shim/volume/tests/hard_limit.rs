//! The hard limit of a volume's quota project is reached: programs are told so as on any volume,
//! and nothing of what a stack needs for itself fails because of it. Needs a kernel with quotas.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../transfer/tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
mod disk;
#[allow(dead_code)]
mod place;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::thread;

use common::{Snapshot, snapshot, tempdir};
use disk::{Container, Disk};
use mycedrive_volume::attach::Attached;
use mycedrive_volume::{Error, Found, create_checkpoint, find, layers, receive, undisturbed};
use nix::sys::statvfs::statvfs;
use place::{Place, changes, content, received, same, stack_with_changes};

const KINDS: [&str; 2] = ["xfs", "ext4"];
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Runs `work` in a thread of a user: on ext4 root may exceed limits.
fn as_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            // SAFETY: plain numbers. The system call, other than the library's function, is for
            // this thread only.
            let gone = unsafe { libc::syscall(libc::SYS_setresuid, 1000, 1000, 1000) };
            assert_eq!(gone, 0);
            work()
        });
        working.join().unwrap()
    })
}

fn open_to_all(path: &Path) {
    assert!(disk::run("chmod", &["-R", "a+rwX"], &[path]));
}

/// Appends until it cannot, at last single bytes' worth.
fn append(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let mut result = Ok(());
    for size in [64 * KIB, KIB] {
        let piece = vec![b'f'; size as usize];
        let mut pieces = (0..8 * MIB / size).map(|_| file.write_all(&piece));
        result = pieces.find(Result::is_err).unwrap_or(Ok(()));
    }
    result
}

/// What a program is told: by XFS, of a project, that there is no space.
#[track_caller]
fn refused(result: &io::Result<()>) {
    let number = result.as_ref().map_err(io::Error::raw_os_error);
    let known = [Err(Some(libc::EDQUOT)), Err(Some(libc::ENOSPC))];
    assert!(known.contains(&number), "{result:?}");
}

/// Files with long names: a directory of them has many blocks.
fn many(directory: &Path, from: u32, to: u32) {
    for number in from..to {
        let name = format!("{number}-{}", "n".repeat(100));
        File::create(directory.join(name)).unwrap();
    }
}

/// A stack with everything that folding back has to do, and no byte left in the project.
fn used_up(disk: &Disk) -> (Place, Snapshot) {
    let place = disk.place();
    content(&place.volume);
    fs::write(place.volume.join("large"), vec![b'x'; 2 << 20]).unwrap();
    fs::create_dir(place.volume.join("many")).unwrap();
    many(&place.volume.join("many"), 0, 500);
    open_to_all(&place.volume);
    disk.limit(64 * MIB);
    place.init();
    let seen = place.mounted(|root| {
        changes(root);
        many(&root.join("many"), 500, 1000);
        open_to_all(root);
        disk.limit(3 * MIB);
        as_user(|| {
            refused(&append(&root.join("fill")));
            // It would be copied up whole.
            refused(&append(&root.join("large")));
        });
        // Root of a container as well: OverlayFS writes as who mounted it, without the right to
        // exceed limits.
        refused(&append(&root.join("fill")));
        assert_eq!(fs::metadata(root.join("large")).unwrap().len(), 2 * MIB);
        // It stays in the base, and needs its room there until the end. A mark that it is gone is an
        // entry, for which XFS has no room.
        let removed = fs::remove_file(root.join("large"));
        eprintln!("{}: removed from the base: {removed:?}", disk.kind);
        if removed.is_err() {
            refused(&removed);
        }
        refused(&append(&root.join("fill")));
    });
    (place, seen)
}

#[test]
fn a_stack_that_is_used_up_becomes_a_directory() {
    for kind in KINDS {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let (place, seen) = used_up(&disk);
        place.end();
        same(&seen, &snapshot(&place.volume), false);
    }
}

/// Sealed, and mounted again: programs can still write what there is room for, and remove.
#[test]
fn a_stack_that_is_used_up_goes_on() {
    for kind in KINDS {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let (place, mut seen) = used_up(&disk);
        for round in 0..3 {
            create_checkpoint(&place.volume, &mut undisturbed).unwrap();
            let before = std::mem::take(&mut seen);
            seen = place.mounted(|root| {
                same(&before, &snapshot(root), false);
                as_user(|| refused(&append(&root.join(format!("fill-{round}")))));
            });
        }
        disk.counted("used up");
        place.end();
        disk.counted("plain again");
        same(&seen, &snapshot(&place.volume), false);
    }
}

/// Between no room at all and enough, wherever the making of a stack ends.
#[test]
fn a_directory_that_is_used_up_can_be_mounted() {
    for kind in KINDS {
        for (names, left) in [
            (0, 0),
            (2000, 0),
            (0, 600),
            (2000, 900),
            (2000, 1100),
            (0, 1500),
        ] {
            let Some(disk) = Disk::make(kind) else {
                continue;
            };
            let place = disk.place();
            content(&place.volume);
            many(&place.volume, 0, names);
            open_to_all(&place.volume);
            disk.limit(MIB);
            as_user(|| refused(&append(&place.volume.join("fill"))));
            disk.limit(left * KIB);
            let before = snapshot(&place.volume);
            let container = Container::new();
            let got = container.attach(&place.volume).unwrap();
            eprintln!("{kind}, {names} names, {left} KiB left: {got:?}");
            match got {
                Attached::Stack(root) => {
                    same(&before, &snapshot(&root), false);
                    refused(&append(&root.join("fill-2")));
                    let seen = snapshot(&root);
                    assert!(container.detach(&place.volume));
                    same(&seen, &snapshot(&place.volume), false);
                }
                Attached::Plain(_) => same(&before, &snapshot(&place.volume), false),
            }
            assert_eq!(find(&place.volume).unwrap(), Found::Plain);
        }
    }
}

/// Kubelet counts what is in a project, and sets no limit, or one beyond all disks.
#[test]
fn room_is_kept_only_where_there_is_a_limit() {
    for kind in KINDS {
        for (limit, kept) in [
            (None, false),
            (Some(1 << 50), false),
            (Some(64 * MIB), true),
        ] {
            let Some(disk) = Disk::make(kind) else {
                continue;
            };
            let place = disk.place();
            content(&place.volume);
            if let Some(limit) = limit {
                disk.limit(limit);
            }
            place.init();
            let room = place.volume.join(".mycedrive-stack/room");
            assert_eq!(room.exists(), kept, "{kind} {limit:?}");
            place.end();
            assert!(!room.exists());
        }
    }
}

#[test]
fn what_does_not_fit_is_not_received() {
    for kind in KINDS {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let place = disk.place();
        fs::write(place.volume.join("before"), vec![b'b'; 1 << 20]).unwrap();
        let before = snapshot(&place.volume);
        disk.limit(3 * MIB);
        // What a destination looks at before it asks for anything.
        let free = statvfs(&place.volume).unwrap();
        let free = free.blocks_available() * free.fragment_size();
        assert!(free <= 3 * MIB, "{kind}: {free} bytes are free");
        let from = tempdir();
        fs::write(from.path().join("large"), vec![b'x'; 4 << 20]).unwrap();
        let to = receive::begin(&place.volume, 2).unwrap();
        let copied = mycedrive_transfer::access::copy_tree(from.path(), &to[0]);
        // Root may exceed the limit there.
        assert_eq!(copied.is_err(), kind == "xfs", "{copied:?}");
        receive::discard(&place.volume).unwrap();
        same(&before, &snapshot(&place.volume), false);
        // No room for what a stack needs itself.
        if kind == "xfs" {
            disk.limit(600 * KIB);
            match receive::begin(&place.volume, 2) {
                Err(Error::Room { volume, .. }) => assert_eq!(volume, place.volume),
                other => panic!("{other:?}"),
            }
            assert_eq!(find(&place.volume).unwrap(), Found::Plain);
            same(&before, &snapshot(&place.volume), false);
        }
    }
}

#[test]
fn what_just_fits_becomes_a_stack() {
    for kind in KINDS {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let place = disk.place();
        disk.limit(64 * MIB);
        let from = Place::new();
        stack_with_changes(&from);
        fs::create_dir(from.volume.join(".mycedrive-stack/base/others")).unwrap();
        open_to_all(&from.volume.join(".mycedrive-stack/base/others"));
        received(&layers(&from.volume).unwrap(), &place.volume);
        let others = place.volume.join(".mycedrive-stack/base/others");
        assert!(disk::run(
            "chmod",
            &["a+x"],
            &[
                &place.volume,
                &place.volume.join(".mycedrive-stack"),
                &place.volume.join(".mycedrive-stack/base")
            ]
        ));
        disk.limit(MIB);
        as_user(|| refused(&append(&others.join("fill"))));
        receive::commit(&place.volume, &mut undisturbed).unwrap();
        let seen = place.mounted(|root| {
            as_user(|| refused(&append(&root.join("others/fill"))));
        });
        place.end();
        same(&seen, &snapshot(&place.volume), false);
    }
}

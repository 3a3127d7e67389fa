//! Loss of power: the volume is on a file system in a file, of which a copy is taken at every step
//! of an operation. The copy has what the file system has put on its disk by then, and nothing
//! that is only in memory. Mounted again, it must have the stack or the plain directory, and all
//! data that was on the disk before the operation.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../transfer/tests/common/mod.rs"]
mod common;
mod place;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Snapshot, snapshot, tempdir, transfer};
use mycedrive_transfer::{Budget, Round, TreeReceiver, TreeSender};
use mycedrive_volume::layout::Phase;
use mycedrive_volume::{Found, create_checkpoint, end, init, receive, recover, undisturbed};
use place::{Place, content, ready, same, stack_with_changes, with_received};

/// A file system in a file. Its journal is written when something is synced, not by the clock.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn make(folder: &Path) -> Self {
        let (image, at) = (folder.join("image"), folder.join("disk"));
        fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", path(&image)]);
        let disk = Self { image, at };
        disk.mount();
        fs::create_dir(disk.at.join("volume")).unwrap();
        fs::create_dir(disk.at.join("merged")).unwrap();
        disk
    }

    fn mount(&self) {
        let options = "loop,commit=600";
        run("mount", &["-o", options, path(&self.image), path(&self.at)]);
    }

    fn sync(&self) {
        run("sync", &["-f", path(&self.at)]);
    }

    /// The disk as a loss of power at this moment would leave it.
    fn cut(&self, to: &Path) {
        run("cp", &["--sparse=always", path(&self.image), path(to)]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {text}");
}

fn tools() -> bool {
    let all = ["mkfs.ext4", "mount", "sync", "cp"];
    let found = all
        .iter()
        .all(|tool| Command::new(tool).arg("--version").output().is_ok());
    let loops = Path::new("/dev/loop-control").exists();
    if !found || !loops {
        eprintln!("skipped: a file system in a file needs mkfs.ext4 and loop devices");
    }
    ready() && found && loops
}

/// Which of the steps are on the disk when the power goes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// What the operation has synced itself.
    Synced,
    /// All of them.
    All,
}

/// Takes a copy at each step of `work` and after the last, and looks at each.
fn at_every_step<T>(
    cut: Cut,
    prepare: impl Fn(&Place) -> T,
    work: impl Fn(&Path, &mut dyn FnMut()),
    look: impl Fn(&Place, &T, &str),
) -> usize {
    let folder = tempdir();
    let disk = Disk::make(folder.path());
    let place = Place::at(&disk.at);
    let before = prepare(&place);
    disk.sync();
    let copy = |number: usize| folder.path().join(format!("cut-{number}"));
    let mut count = 0;
    let mut step = || {
        if matches!(cut, Cut::All) {
            disk.sync();
        }
        disk.cut(&copy(count));
        count += 1;
    };
    work(&place.volume, &mut step);
    step();
    drop(place);
    drop(disk);
    let at = folder.path().join("again");
    fs::create_dir(&at).unwrap();
    for number in 0..count {
        let disk = Disk {
            image: copy(number),
            at: at.clone(),
        };
        disk.mount();
        look(&Place::at(&disk.at), &before, &format!("{cut:?} {number}"));
        drop(disk);
        fs::remove_file(copy(number)).unwrap();
    }
    count
}

/// Everything is there, by recovery and by a fold.
fn all_there(place: &Place, seen: &Snapshot, step: &str) {
    match recover(&place.volume, &mut undisturbed).unwrap() {
        Found::Plain => {}
        Found::Stack(state) => {
            assert_eq!(state.phase, Phase::Stack, "{step}");
            same(seen, &place.mounted(|_| {}), false);
        }
        Found::Foreign => panic!("{step}: the state is lost"),
    }
    place.end();
    same(seen, &snapshot(&place.volume), false);
}

/// The copies are what they are meant to be: without a sync content is lost, and what rounds
/// brought is there after theirs.
#[test]
fn what_was_received_and_synced_stays() {
    if !tools() {
        return;
    }
    let (from, folder) = (tempdir(), tempdir());
    content(from.path());
    let disk = Disk::make(folder.path());
    disk.sync();
    let to = disk.at.join("volume");
    let mut sender = TreeSender::new(from.path()).unwrap();
    let mut receiver = TreeReceiver::new(&to, &Budget::default()).unwrap();
    let mut cuts = Vec::new();
    for number in 0..3 {
        fs::write(from.path().join("plain-1"), format!("{number}")).unwrap();
        fs::rename(
            from.path().join(format!("plain-{}", 3 - number)),
            from.path().join("moved"),
        )
        .unwrap();
        transfer(&mut sender, &mut receiver, Round::Live);
        let (lost, kept) = (
            folder.path().join("lost"),
            folder.path().join(format!("{number}")),
        );
        if number == 0 {
            disk.cut(&lost);
        }
        let written = receiver.take_written().unwrap();
        assert!(written.files() > 0);
        written.sync().unwrap();
        disk.cut(&kept);
        cuts.push((kept, snapshot(from.path())));
        if number == 0 {
            cuts.push((lost, Snapshot::new()));
        }
    }
    drop(receiver);
    drop(disk);
    let at = folder.path().join("again");
    fs::create_dir(&at).unwrap();
    for (image, seen) in cuts {
        let disk = Disk {
            image,
            at: at.clone(),
        };
        disk.mount();
        let found = snapshot(&disk.at.join("volume"));
        if seen.is_empty() {
            assert_eq!(found.len(), 1, "nothing was synced");
        } else {
            same(&seen, &found, true);
        }
    }
}

#[test]
fn init_keeps_everything() {
    if !tools() {
        return;
    }
    let prepare = |place: &Place| {
        content(&place.volume);
        snapshot(&place.volume)
    };
    for cut in [Cut::Synced, Cut::All] {
        let work = |volume: &Path, steps: &mut dyn FnMut()| init(volume, steps).unwrap();
        assert!(at_every_step(cut, prepare, work, all_there) > 10);
    }
}

#[test]
fn end_keeps_everything() {
    if !tools() {
        return;
    }
    for cut in [Cut::Synced, Cut::All] {
        let work = |volume: &Path, steps: &mut dyn FnMut()| end(volume, steps).unwrap();
        assert!(at_every_step(cut, stack_with_changes, work, all_there) > 40);
    }
}

#[test]
fn a_checkpoint_keeps_everything() {
    if !tools() {
        return;
    }
    for cut in [Cut::Synced, Cut::All] {
        let work = |volume: &Path, steps: &mut dyn FnMut()| {
            create_checkpoint(volume, steps).unwrap();
        };
        assert!(at_every_step(cut, stack_with_changes, work, all_there) > 3);
    }
}

/// Either the volume is what it was, or it has all that was received.
#[test]
fn a_commit_has_everything_or_nothing() {
    if !tools() {
        return;
    }
    let look = |place: &Place, seen: &Snapshot, step: &str| {
        let Found::Stack(state) = recover(&place.volume, &mut undisturbed).unwrap() else {
            panic!("{step}: no stack");
        };
        if state.phase == Phase::Receive {
            receive::discard(&place.volume).unwrap();
            let kept = fs::read_to_string(place.volume.join("before")).unwrap();
            assert_eq!(kept, "of the volume", "{step}");
        } else {
            all_there(place, seen, step);
        }
    };
    for cut in [Cut::Synced, Cut::All] {
        let work = |volume: &Path, steps: &mut dyn FnMut()| {
            receive::commit(volume, steps).unwrap();
        };
        assert!(at_every_step(cut, with_received, work, look) > 3);
    }
}

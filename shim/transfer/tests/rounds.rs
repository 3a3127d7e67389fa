//! What a round sends and what it leaves out, and a tree that changes under the sender's hands.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::script::noise;
use common::{
    assert_same, is_root, receive, receiver, send, set_xattr, snapshot, tempdir, transfer,
};
use mycedrive_transfer::{
    Budget, Error, FinalRound, FrameReader, FrameWriter, Level, Limiter, Options, Round, TreeId,
    TreeReceiver, TreeSender,
};
use nix::fcntl::{FallocateFlags, fallocate};

/// Longer than the window in which a ctime is not trusted.
fn settle() {
    thread::sleep(Duration::from_millis(150));
}

fn last() -> FinalRound {
    FinalRound::default()
}

#[test]
fn an_unchanged_tree_costs_nothing() {
    let (from, to) = (tempdir(), tempdir());
    for number in 0..200 {
        fs::write(from.path().join(format!("f{number}")), noise(5000, number)).unwrap();
    }
    settle();
    let (mut sender, mut receiver) = (TreeSender::new(from.path()).unwrap(), receiver(to.path()));
    let first = transfer(&mut sender, &mut receiver, Round::Live);
    assert!(first.full);
    assert_eq!(first.content_bytes, 200 * 5000);
    let (stream, second) = send(&mut sender, Round::Final(&last()));
    receive(&mut receiver, &stream).unwrap();
    // Only the root's own attributes.
    assert_eq!(
        (second.full, second.changed, second.content_bytes),
        (false, 1, 0)
    );
    assert!(stream.len() < 400, "{}", stream.len());
    assert_same(from.path(), to.path());
}

#[test]
fn a_large_file_sends_only_its_changed_pages() {
    let (from, to) = (tempdir(), tempdir());
    let path = from.path().join("data.db");
    fs::write(&path, noise(4 << 20, 1)).unwrap();
    let (mut sender, mut receiver) = (TreeSender::new(from.path()).unwrap(), receiver(to.path()));
    transfer(&mut sender, &mut receiver, Round::Live);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 1_000_000).unwrap();
    // Two pages of another block.
    file.write_all_at(b"yy", 732 * 4096 - 1).unwrap();
    let second = transfer(&mut sender, &mut receiver, Round::Live);
    assert_eq!(second.content_bytes, 3 * 4096);
    assert_same(from.path(), to.path());
}

/// What a piece of a block holds changes in every way: data, its end, holes.
#[test]
fn ends_and_holes_inside_a_block_arrive() {
    let (from, to) = (tempdir(), tempdir());
    let path = from.path().join("file");
    fs::write(&path, noise(200_000, 1)).unwrap();
    let (mut sender, mut receiver) = (TreeSender::new(from.path()).unwrap(), receiver(to.path()));
    transfer(&mut sender, &mut receiver, Round::Live);
    let file = File::options().write(true).open(&path).unwrap();
    let steps: [(&dyn Fn(), u64); 6] = [
        // In the middle of a piece; then longer, with a hole up to the old end and beyond it.
        (&|| file.set_len(150_001).unwrap(), 2545),
        (&|| file.set_len(260_000).unwrap(), 4096),
        (&|| file.write_all_at(b"x", 259_000).unwrap(), 1952),
        (&|| punch(&file, 8192, 4096), 0),
        (&|| punch(&file, 0, 65536), 0),
        (&|| file.write_all_at(b"z", 20_000).unwrap(), 4096),
    ];
    for (number, (step, bytes)) in steps.into_iter().enumerate() {
        step();
        let sent = transfer(&mut sender, &mut receiver, Round::Live);
        assert_eq!(sent.content_bytes, bytes, "step {number}");
        assert_same(from.path(), to.path());
    }
}

fn punch(file: &File, offset: i64, length: i64) {
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, mode, offset, length).unwrap();
}

#[test]
fn renamed_directories_and_swapped_files_send_no_content() {
    let (from, to) = (tempdir(), tempdir());
    let root = from.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    for name in ["a/one", "a/b/two", "x", "y"] {
        fs::write(root.join(name), noise(100_000, name.len() as u8)).unwrap();
    }
    fs::hard_link(root.join("a/one"), root.join("one-too")).unwrap();
    let (mut sender, mut receiver) = (TreeSender::new(root).unwrap(), receiver(to.path()));
    transfer(&mut sender, &mut receiver, Round::Live);
    fs::rename(root.join("a"), root.join("c")).unwrap();
    fs::rename(root.join("x"), root.join("tmp")).unwrap();
    fs::rename(root.join("y"), root.join("x")).unwrap();
    fs::rename(root.join("tmp"), root.join("y")).unwrap();
    fs::create_dir(root.join("a")).unwrap();
    fs::rename(root.join("c/b/two"), root.join("a/one")).unwrap();
    let second = transfer(&mut sender, &mut receiver, Round::Live);
    assert_eq!(second.content_bytes, 0);
    assert_eq!(second.moved, 3);
    assert_same(root, to.path());
}

#[test]
fn a_receiver_with_another_state_refuses_a_delta() {
    let (from, to) = (tempdir(), tempdir());
    fs::write(from.path().join("f"), "1").unwrap();
    let (mut sender, mut first) = (TreeSender::new(from.path()).unwrap(), receiver(to.path()));
    transfer(&mut sender, &mut first, Round::Live);
    let (stream, _) = send(&mut sender, Round::Live);
    // The same round twice.
    receive(&mut first, &stream).unwrap();
    let error = receive(&mut first, &stream).unwrap_err();
    assert!(
        matches!(
            error,
            Error::OutOfStep {
                base: 1,
                have: 2,
                ..
            }
        ),
        "{error}"
    );
    // A receiver that was restarted, with something else in its directory.
    fs::create_dir(to.path().join("stray")).unwrap();
    fs::write(to.path().join("stray/file"), "stray").unwrap();
    let mut second = receiver(to.path());
    assert!(receive(&mut second, &stream).is_err());
    sender.reset();
    assert!(transfer(&mut sender, &mut second, Round::Final(&last())).full);
    assert_same(from.path(), to.path());
}

#[test]
fn overlay_bookkeeping_stays_and_overlay_content_goes() {
    if !is_root() {
        eprintln!("skipped: trusted.* attributes need root");
        return;
    }
    let (from, to) = (tempdir(), tempdir());
    let dir = from.path().join("dir");
    fs::create_dir(&dir).unwrap();
    for name in [
        "origin",
        "impure",
        "nlink",
        "uuid",
        "opaque",
        "redirect",
        "overlay.opaque",
    ] {
        assert!(set_xattr(&dir, &format!("trusted.overlay.{name}"), b"y"));
    }
    transfer(
        &mut TreeSender::new(from.path()).unwrap(),
        &mut receiver(to.path()),
        Round::Final(&last()),
    );
    let names: Vec<_> = xattr_names(&to.path().join("dir"));
    assert_eq!(
        names,
        [
            "trusted.overlay.opaque",
            "trusted.overlay.overlay.opaque",
            "trusted.overlay.redirect"
        ]
    );
    assert_same(from.path(), to.path());
}

fn xattr_names(path: &Path) -> Vec<String> {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: NUL-terminated path, buffer with its length.
    let size = unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let list = String::from_utf8(buffer[..usize::try_from(size).unwrap()].to_vec()).unwrap();
    let mut names: Vec<_> = list.split_terminator('\0').map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn a_tree_deeper_than_path_max_arrives() {
    let (from, to) = (tempdir(), tempdir());
    let name = "d".repeat(200);
    let mut at = File::open(from.path()).unwrap();
    for _ in 0..30 {
        let here = PathBuf::from(format!("/proc/self/fd/{}", at.as_raw_fd()));
        fs::create_dir(here.join(&name)).unwrap();
        fs::write(here.join("file"), "deep").unwrap();
        at = File::open(here.join(&name)).unwrap();
    }
    let (mut sender, mut receiver) = (TreeSender::new(from.path()).unwrap(), receiver(to.path()));
    transfer(&mut sender, &mut receiver, Round::Live);
    assert_same(from.path(), to.path());
    let here = PathBuf::from(format!("/proc/self/fd/{}", at.as_raw_fd()));
    fs::rename(from.path().join("file"), here.join("moved")).unwrap();
    transfer(&mut sender, &mut receiver, Round::Final(&last()));
    assert_same(from.path(), to.path());
    // A full round clears it away again.
    let empty = tempdir();
    transfer(
        &mut TreeSender::new(empty.path()).unwrap(),
        &mut receiver,
        Round::Live,
    );
    assert_same(empty.path(), to.path());
}

/// A writer that does everything while rounds run; after it stops, one final round must do.
fn chase(from: &Path, to: &Path, rounds: usize) {
    let (mut sender, mut receiver) = (TreeSender::new(from).unwrap(), receiver(to));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2_u64 {
            let stop = &stop;
            scope.spawn(move || {
                let mut number = worker;
                while !stop.load(Ordering::Relaxed) {
                    disturb(from, number);
                    number += 2;
                    thread::sleep(Duration::from_micros(200));
                }
            });
        }
        for _ in 0..rounds {
            transfer(&mut sender, &mut receiver, Round::Live);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let summary = transfer(&mut sender, &mut receiver, Round::Final(&last()));
    assert!(!summary.full);
    assert_same(from, to);
}

/// One small change; failures (the other writer was faster) do not matter.
fn disturb(root: &Path, number: u64) {
    let name = |n: u64| root.join(format!("n{}", n % 13));
    let (a, b) = (
        name(number.wrapping_mul(7)),
        name(number.wrapping_mul(11) + 3),
    );
    let seed = number as u8;
    match number % 12 {
        0 | 1 => drop(fs::write(&a, noise(30_000, seed))),
        2 => drop(fs::rename(&a, &b)),
        3 => drop(fs::remove_file(&a).or_else(|_| fs::remove_dir_all(&a))),
        4 => drop(fs::create_dir(&a).and_then(|()| fs::write(a.join("inner"), noise(100, seed)))),
        5 => drop(fs::hard_link(&a, &b)),
        6 => drop(std::os::unix::fs::symlink(&a, &b)),
        7 => drop(fs::set_permissions(
            &a,
            fs::Permissions::from_mode(0o700 | number as u32 & 0o77),
        )),
        8 => {
            if let Ok(file) = File::options().write(true).open(&a) {
                drop(file.write_at(&noise(500, seed), number % 20_000));
            }
        }
        9 => {
            if let Ok(mut file) = File::options().append(true).open(&a) {
                drop(file.write_all(&noise(70_000, seed)));
            }
        }
        10 => {
            if let Ok(file) = File::options().write(true).open(&a) {
                drop(file.set_len(number % 40_000));
            }
        }
        _ => drop(fs::rename(&a, b.join("moved"))),
    }
}

#[test]
fn a_busy_tree_is_exact_after_the_final_round() {
    let (from, to) = (tempdir(), tempdir());
    chase(from.path(), to.path(), 60);
}

#[test]
fn a_busy_tmpfs_is_exact_after_the_final_round() {
    let shm = Path::new("/dev/shm");
    let Ok(from) = tempfile::tempdir_in(shm) else {
        eprintln!("skipped: no writable /dev/shm");
        return;
    };
    let to = tempdir();
    chase(from.path(), to.path(), 60);
}

/// Maps a file shared and writable.
struct Mapping {
    at: *mut u8,
    size: usize,
}

impl Mapping {
    fn new(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let size = file.metadata().unwrap().size() as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping of an open file, unmapped in Drop.
        let at = unsafe {
            let fd = file.as_raw_fd();
            libc::mmap(
                std::ptr::null_mut(),
                size,
                protection,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        Self {
            at: at.cast(),
            size,
        }
    }

    fn write(&self, offset: usize, value: u8) {
        assert!(offset < self.size);
        // SAFETY: inside the mapping, which lives as long as self.
        unsafe { self.at.add(offset).write_volatile(value) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped in new.
        unsafe { libc::munmap(self.at.cast(), self.size) };
    }
}

/// Writes through a mapping between rounds, to pages that are dirty already as well.
fn map_and_write(from: &Path, to: &Path, hints: impl Fn(&Path) -> FinalRound) {
    let path = from.join("mapped");
    fs::write(&path, vec![1; 300_000]).unwrap();
    let mapping = Mapping::new(&path);
    mapping.write(10, 2);
    settle();
    let (mut sender, mut receiver) = (TreeSender::new(from).unwrap(), receiver(to));
    transfer(&mut sender, &mut receiver, Round::Live);
    mapping.write(11, 3);
    mapping.write(200_000, 4);
    settle();
    transfer(&mut sender, &mut receiver, Round::Live);
    assert_eq!(fs::read(&path).unwrap().len(), 300_000);
    mapping.write(12, 5);
    mapping.write(13, 6);
    settle();
    transfer(&mut sender, &mut receiver, Round::Final(&hints(&path)));
    assert_same(from, to);
    assert_eq!(
        &fs::read(to.join("mapped")).unwrap()[10..15],
        [2, 3, 5, 6, 1]
    );
}

#[test]
fn mapped_writes_arrive_from_a_disk() {
    // The write-back in live rounds makes the ctime tell, without hints.
    let (from, to) = (tempdir(), tempdir());
    map_and_write(from.path(), to.path(), |_| FinalRound::default());
    let (from, to) = (tempdir(), tempdir());
    map_and_write(from.path(), to.path(), |path| FinalRound {
        mapped_paths: vec!["mapped".into()],
        mapped_inodes: vec![path.symlink_metadata().unwrap().ino()],
    });
}

#[test]
fn mapped_writes_arrive_from_a_tmpfs() {
    // No ctime tells there: the final round compares every file.
    let Ok(from) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: no writable /dev/shm");
        return;
    };
    let to = tempdir();
    map_and_write(from.path(), to.path(), |_| FinalRound::default());
}

#[test]
fn several_streams_follow_each_other_in_one_source() {
    let (from, to) = (tempdir(), tempdir());
    let mut sender = TreeSender::new(from.path()).unwrap();
    let mut bytes = Vec::new();
    let id = TreeId::new("tree").unwrap();
    for number in 0..4 {
        fs::write(
            from.path().join(format!("f{number}")),
            noise(300_000, number),
        )
        .unwrap();
        let level = [Level::Stored, Level::Fast, Level::Light, Level::Dense][usize::from(number)];
        let options = Options {
            level,
            follow: number > 0,
            limiter: None,
        };
        let mut out = FrameWriter::new(&mut bytes, &options).unwrap();
        sender.send_round(&mut out, &id, Round::Live).unwrap();
        out.finish().unwrap();
    }
    let (mut receiver, mut source) = (receiver(to.path()), bytes.as_slice());
    for _ in 0..4 {
        let mut reader = FrameReader::new(source, &Budget::default()).unwrap();
        while let Some(section) = reader.next_section().unwrap() {
            let mycedrive_transfer::Section::Tree(begin) = section else {
                panic!()
            };
            receiver.receive_round(&mut reader, &begin).unwrap();
        }
        source = reader.into_inner();
    }
    assert!(source.is_empty());
    assert_same(from.path(), to.path());
}

#[test]
fn the_bandwidth_limit_holds() {
    let from = tempdir();
    fs::write(from.path().join("f"), noise(2_000_000, 1)).unwrap();
    let limiter = Some(Limiter::new(4_000_000));
    let start = Instant::now();
    let mut out = FrameWriter::new(
        std::io::sink(),
        &Options {
            limiter,
            ..Options::default()
        },
    )
    .unwrap();
    let id = TreeId::new("tree").unwrap();
    TreeSender::new(from.path())
        .unwrap()
        .send_round(&mut out, &id, Round::Live)
        .unwrap();
    let (_, counts) = out.finish().unwrap();
    assert!(counts.wire_bytes > 1_900_000);
    assert!(
        start.elapsed() > Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_full_destination_is_a_readable_error() {
    let (from, to) = (tempdir(), tempdir());
    fs::write(from.path().join("f"), noise(2_000_000, 1)).unwrap();
    let (stream, _) = send(&mut TreeSender::new(from.path()).unwrap(), Round::Live);
    let small = Budget {
        stream_bytes: 1_000_000,
        ..Budget::default()
    };
    let mut receiver = TreeReceiver::new(to.path(), &small).unwrap();
    let error = receive(&mut receiver, &stream).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more than the budget of 1000000"),
        "{error}"
    );
    assert!(snapshot(to.path()).len() <= 2);
}

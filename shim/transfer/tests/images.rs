//! Images that are sent while somebody still writes them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::script::noise;
use common::tempdir;
use mycedrive_transfer::{
    Budget, Error, FrameReader, FrameWriter, ImageSet, ImagesSummary, Known, Options,
    ReceivedImages, Result, Section, receive_images, send_images,
};

fn send(dir: &Path, done: impl Fn() -> bool) -> Result<(Vec<u8>, ImagesSummary)> {
    let mut out = FrameWriter::new(Vec::new(), &Options::default())?;
    let summary = send_images(&mut out, dir, &Known::default(), done)?;
    Ok((out.finish()?.0, summary))
}

fn receive(stream: &[u8], dir: &Path) -> Result<ReceivedImages> {
    let mut reader = FrameReader::new(stream, &Budget::default())?;
    let mut received = None;
    while let Some(section) = reader.next_section()? {
        let Section::Images(begin) = section else {
            panic!("a tree")
        };
        received = Some(receive_images(&mut reader, &begin, dir)?);
    }
    Ok(received.unwrap())
}

fn same(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let other = to.join(entry.file_name());
        let mode = other.symlink_metadata().unwrap().permissions().mode();
        if entry.file_type().unwrap().is_dir() {
            assert_eq!(mode & 0o7777, 0o700);
            same(&entry.path(), &other);
        } else {
            assert_eq!(mode & 0o7777, 0o600);
            assert!(
                fs::read(entry.path()).unwrap() == fs::read(&other).unwrap(),
                "{}",
                other.display()
            );
        }
    }
    let count = |dir: &Path| fs::read_dir(dir).unwrap().count();
    assert_eq!(count(from), count(to));
}

#[test]
fn files_are_followed_while_they_grow() {
    let (from, to) = (tempdir(), tempdir());
    let to = to.path().join("images");
    let done = AtomicBool::new(false);
    let (stream, summary) = thread::scope(|scope| {
        scope.spawn(|| {
            for container in ["redis", "sidecar"] {
                let dir = from.path().join(container);
                fs::create_dir(&dir).unwrap();
                let mut pages = File::create(dir.join("pages-1.img")).unwrap();
                let core = File::create(dir.join("core-1.img")).unwrap();
                for number in 0..60 {
                    // An odd size, and pages of zeros in between.
                    pages.write_all(&noise(70_000, number)).unwrap();
                    pages.write_all(&vec![0; 40_000]).unwrap();
                    // Rewritten at an offset that was written before.
                    core.write_all_at(&noise(900, number), u64::from(number % 3) * 100)
                        .unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
            }
            fs::write(from.path().join("inventory.img"), b"inventory").unwrap();
            fs::write(from.path().join("empty.img"), b"").unwrap();
            done.store(true, Ordering::Release);
        });
        send(from.path(), || done.load(Ordering::Acquire)).unwrap()
    });
    assert!(summary.early_bytes > summary.bytes / 2, "{summary:?}");
    assert!(summary.zero_bytes > 2_000_000, "{summary:?}");
    let received = receive(&stream, &to).unwrap();
    assert_eq!(
        (received.set, received.files, received.bytes),
        (ImageSet::Whole { base: 0 }, 6, summary.bytes)
    );
    same(from.path(), &to);
    assert_eq!(
        fs::metadata(&to).unwrap().permissions().mode() & 0o7777,
        0o700
    );
}

#[test]
fn zero_pages_stay_holes_and_the_size_is_kept() {
    use std::os::unix::fs::MetadataExt as _;
    let (from, to) = (tempdir(), tempdir());
    let mut bytes = vec![0; 10 << 20];
    bytes[5 << 20] = 1;
    fs::write(from.path().join("pages-1.img"), &bytes).unwrap();
    let (stream, _) = send(from.path(), || true).unwrap();
    assert!(stream.len() < 1000, "{}", stream.len());
    receive(&stream, to.path()).unwrap();
    same(from.path(), to.path());
    assert!(
        fs::metadata(to.path().join("pages-1.img"))
            .unwrap()
            .blocks()
            < 64
    );
}

#[test]
fn a_second_attempt_replaces_the_first() {
    let (from, to) = (tempdir(), tempdir());
    fs::write(from.path().join("pages-1.img"), noise(100_000, 1)).unwrap();
    let (stream, _) = send(from.path(), || true).unwrap();
    fs::write(to.path().join("left-over.img"), "old").unwrap();
    assert!(matches!(
        receive(&stream[..5000], to.path()),
        Err(Error::Truncated)
    ));
    receive(&stream, to.path()).unwrap();
    same(from.path(), to.path());
}

#[test]
fn a_symlink_among_the_images_is_refused() {
    let from = tempdir();
    std::os::unix::fs::symlink("/etc/passwd", from.path().join("pages-1.img")).unwrap();
    assert!(matches!(
        send(from.path(), || true),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn a_page_file_that_shrinks_is_an_error() {
    let from = tempdir();
    let path = from.path().join("pages-1.img");
    fs::write(&path, noise(100_000, 1)).unwrap();
    let calls = std::cell::Cell::new(0);
    let result = send(from.path(), || {
        calls.set(calls.get() + 1);
        if calls.get() == 2 {
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(10)
                .unwrap();
        }
        calls.get() > 2
    });
    assert!(matches!(result, Err(Error::Unsupported { .. })));
}

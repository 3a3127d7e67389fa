use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use super::super::tests::{Mapping, Receiver, round_beside};
use super::super::{Form, MemorySender, STORE};
use crate::image::PAGE;
use crate::{Budget, Error, FrameReader, ImageFiles, Section, receive_images_over};

/// Pages, of which one has zeros and the last one is not whole.
fn content() -> Vec<u8> {
    let mut content: Vec<u8> = (0..40 * PAGE - 100)
        .map(|at| (at / PAGE + at * 7) as u8)
        .collect();
    for (number, page) in content.chunks_mut(PAGE).enumerate() {
        page[..8].copy_from_slice(&(0x5ead_0000 + number as u64).to_le_bytes());
    }
    content[20 * PAGE..21 * PAGE].fill(0);
    content
}

/// The copy of an image with this file.
fn image(layer: &Path, path: &Path, content: &[u8]) -> ImageFiles {
    let copy = layer.join(path.strip_prefix("/").unwrap());
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::write(copy, content).unwrap();
    let mut files = ImageFiles::default();
    files.add("redis", &[PathBuf::from(layer)]).unwrap();
    files
}

#[test]
fn pages_of_the_image_are_not_sent() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().canonicalize().unwrap().join("lib.so");
    fs::write(&path, content()).unwrap();
    let file = fs::File::open(&path).unwrap();
    let mut mapping = Mapping::of_file(file.as_raw_fd(), 40);
    // The process has written into one of them.
    mapping.bytes()[30 * PAGE] = 1;

    let layer = |name: &str| scratch.path().join(name);
    let files = image(&layer("a"), &path, &content());
    let mut sender = MemorySender::default();
    let (stream, summary) = round_beside(&files, Form::Pages, &mut sender, (1, 0));
    assert_eq!(summary.shared_bytes, 38 * PAGE as u64);

    let here = Receiver::with(image(&layer("b"), &path, &content()));
    here.take(1, &stream);
    let store = fs::read(here.round(1).join(STORE)).unwrap();
    assert_eq!(
        store.len() as u64,
        summary.sent_bytes + summary.shared_bytes
    );
    for (number, page) in mapping.bytes().chunks(PAGE).enumerate() {
        let there = store.chunks(PAGE).filter(|stored| *stored == page).count();
        assert_eq!(there, usize::from(number != 20), "page {number}");
    }
    // They are known now, as if they had been sent.
    let (_, again) = round_beside(&files, Form::Pages, &mut sender, (2, 1));
    assert_eq!(again.shared_bytes, 0);
}

#[test]
fn another_image_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().canonicalize().unwrap().join("lib.so");
    fs::write(&path, content()).unwrap();
    let file = fs::File::open(&path).unwrap();
    let _mapping = Mapping::of_file(file.as_raw_fd(), 40);
    let layer = |name: &str| scratch.path().join(name);
    let files = image(&layer("a"), &path, &content());
    let mut sender = MemorySender::default();
    let (stream, _) = round_beside(&files, Form::Pages, &mut sender, (1, 0));

    let mut other = content();
    other[35 * PAGE + 9] ^= 1;
    let changed = image(&layer("changed"), &path, &other);
    let shorter = image(&layer("shorter"), &path, &content()[..25 * PAGE]);
    let elsewhere = image(&layer("elsewhere"), Path::new("/other"), &content());
    for (why, files) in [
        ("changed", changed),
        ("shorter", shorter),
        ("elsewhere", elsewhere),
        ("none", ImageFiles::default()),
    ] {
        let mut reader = FrameReader::new(&*stream, &Budget::default()).unwrap();
        let Some(Section::Images(begin)) = reader.next_section().unwrap() else {
            panic!("no images")
        };
        let here = tempfile::tempdir().unwrap();
        let to = here.path().join("1");
        let error = receive_images_over(&mut reader, &begin, &to, here.path(), &files).unwrap_err();
        assert!(matches!(error, Error::NotShared { .. }), "{why}: {error}");
        let text = error.to_string();
        assert!(text.contains("lib.so"), "{text}");
    }
}

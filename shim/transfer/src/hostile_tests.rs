//! Streams that were damaged or made up: typed errors, nothing outside the root, no panic, and
//! never success.

mod limits;
mod paths;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::wire::{Attributes, ChunkReader, ChunkWriter, Frame, Time};
use crate::{
    Budget, Error, FrameReader, FrameWriter, Known, Options, Result, Round, Section, TreeId,
    TreeReceiver, TreeSender, receive_images, send_images,
};

/// A root with neighbours that must stay as they are.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("mycedrive-hostile-")
            .tempdir_in("/var/tmp")
            .unwrap();
        for name in ["root", "images"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/file"), "untouched").unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Receives a stream; the surroundings must not change, whatever comes.
    fn receive(&self, stream: &[u8]) -> Result<()> {
        let result = receive(stream, &self.root(), &self.dir.path().join("images"));
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(self.dir.path()), ["images", "outside", "root"]);
        assert_eq!(names(&self.outside()), ["file"]);
        assert_eq!(fs::read(self.outside().join("file")).unwrap(), b"untouched");
        result
    }
}

fn budget() -> Budget {
    Budget {
        stream_bytes: 1 << 20,
        entries: 100,
        file_size: 1 << 20,
        devices: false,
    }
}

fn receive(stream: &[u8], root: &Path, images: &Path) -> Result<()> {
    let mut tree = TreeReceiver::new(root, &budget())?;
    let mut reader = FrameReader::new(stream, &budget())?;
    while let Some(section) = reader.next_section()? {
        match section {
            Section::Tree(begin) => drop(tree.receive_round(&mut reader, &begin)?),
            Section::Images(begin) => drop(receive_images(&mut reader, &begin, images)?),
        }
    }
    Ok(())
}

/// A stream with these frames in a full round of a tree.
fn stream_of(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    out.put(&Frame::TreeBegin {
        id: b"tree",
        session: 1,
        base: 0,
        round: 1,
    })
    .unwrap();
    for frame in frames {
        out.put(frame).unwrap();
    }
    let digest = out.digest();
    out.put(&Frame::TreeEnd { digest }).unwrap();
    out.finish().unwrap().0
}

/// A good stream with a bit of everything.
fn good_stream() -> Vec<u8> {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = dir.path().join("tree");
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::write(root.join("sub/file"), vec![7; 5000]).unwrap();
    fs::hard_link(root.join("sub/file"), root.join("sub/deep/link")).unwrap();
    std::os::unix::fs::symlink("../outside", root.join("symlink")).unwrap();
    let images = dir.path().join("images");
    fs::create_dir_all(images.join("redis")).unwrap();
    fs::write(images.join("redis/pages-1.img"), vec![9; 9000]).unwrap();
    fs::write(images.join("redis/core-1.img"), b"core").unwrap();
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    let id = TreeId::new("tree").unwrap();
    TreeSender::new(&root)
        .unwrap()
        .send_round(&mut out, &id, Round::Live)
        .unwrap();
    send_images(&mut out, &images, &Known::default(), || true).unwrap();
    out.finish().unwrap().0
}

/// The frames of a stream, as bytes.
fn unwrap(stream: &[u8]) -> Vec<u8> {
    let chunks = ChunkReader::new(stream).unwrap();
    let mut raw = Vec::new();
    zstd::stream::read::Decoder::with_buffer(chunks)
        .unwrap()
        .read_to_end(&mut raw)
        .unwrap();
    raw
}

/// A stream with these bytes as its frames: valid chunks and compression.
fn wrap(raw: &[u8]) -> Vec<u8> {
    let chunks = ChunkWriter::new(Vec::new(), None).unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(chunks, 1).unwrap();
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap().finish().unwrap().0
}

#[test]
fn the_good_stream_is_good() {
    let place = Place::new();
    place.receive(&good_stream()).unwrap();
    assert_eq!(
        fs::read(place.root().join("sub/deep/link")).unwrap(),
        vec![7; 5000]
    );
    place.receive(&wrap(&unwrap(&good_stream()))).unwrap();
}

#[test]
fn every_truncation_is_an_error() {
    let (place, stream) = (Place::new(), good_stream());
    for end in 0..stream.len() {
        let error = place.receive(&stream[..end]).unwrap_err();
        assert!(matches!(error, Error::Truncated), "{end}: {error}");
    }
}

#[test]
fn every_flipped_byte_is_an_error() {
    let (place, stream) = (Place::new(), good_stream());
    for at in 0..stream.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = stream.clone();
            bad[at] ^= flip;
            assert!(place.receive(&bad).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn every_flipped_byte_inside_the_frames_is_an_error() {
    let (place, raw) = (Place::new(), unwrap(&good_stream()));
    // The content of the two files is long and dull: a sample of it is enough.
    let dull = |at: usize| at > 2 && raw[at - 2] == raw[at] && raw[at - 1] == raw[at];
    for at in (0..raw.len()).filter(|at| !dull(*at) || at % 512 == 0) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = raw.clone();
            bad[at] ^= flip;
            assert!(place.receive(&wrap(&bad)).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_an_error() {
    let place = Place::new();
    let mut raw = unwrap(&good_stream());
    raw.push(0);
    assert!(matches!(place.receive(&wrap(&raw)), Err(Error::Trailing)));
}

#[test]
fn a_stream_of_another_version_is_an_error() {
    let place = Place::new();
    let mut stream = good_stream();
    stream[7] = 2;
    assert!(matches!(place.receive(&stream), Err(Error::Magic { .. })));
}

#[test]
fn digests_are_compared() {
    let place = Place::new();
    for frame in [
        Frame::TreeEnd { digest: [0; 32] },
        Frame::End { digest: [0; 32] },
    ] {
        let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
        if matches!(frame, Frame::TreeEnd { .. }) {
            out.put(&Frame::TreeBegin {
                id: b"t",
                session: 1,
                base: 0,
                round: 1,
            })
            .unwrap();
        }
        out.put(&frame).unwrap();
        let error = place.receive(&out.finish().unwrap().0).unwrap_err();
        assert!(matches!(error, Error::Digest { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_decode_or_fail(kind in any::<u8>(), payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Frame::decode(kind, &payload);
    }

    #[test]
    fn any_frame_survives_the_codec(
        path in prop::collection::vec(any::<u8>(), 0..300),
        numbers in any::<(u64, u32, u32, i64)>(),
        xattrs in prop::collection::vec(("[a-z.]{1,30}", prop::collection::vec(any::<u8>(), 0..50)), 0..4),
    ) {
        let time = Time { seconds: numbers.3, nanos: numbers.1 % 1_000_000_000 };
        let xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        let (mode, uid, gid) = (numbers.1 & 0o7777, numbers.1, numbers.2);
        let attributes = Attributes { mode, uid, gid, atime: time, mtime: time, xattrs };
        for frame in [
            Frame::Attr { attributes, path: &path },
            Frame::Link { existing: &path, path: b"x" },
            Frame::Node { kind: numbers.1, device: numbers.0, target: &path, path: b"y" },
            Frame::Data { offset: numbers.0, bytes: &path },
            Frame::ImageData { file: numbers.1, offset: numbers.0, bytes: &path },
            Frame::ImageKnown {
                file: numbers.1,
                offset: numbers.0,
                round: numbers.2,
                page: numbers.1 / 2,
                count: numbers.2 / 3,
            },
            Frame::ImageShared {
                file: numbers.1,
                offset: numbers.0,
                from: numbers.0 / 2,
                count: numbers.2,
                digest: [numbers.1 as u8; 32],
                path: &path,
            },
        ] {
            let mut bytes = Vec::new();
            let tail = frame.encode(&mut bytes);
            bytes.extend_from_slice(tail);
            prop_assert_eq!(Frame::decode(frame.kind(), &bytes).unwrap(), frame);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_no_stream(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let place = Place::new();
        prop_assert!(place.receive(&bytes).is_err());
        prop_assert!(place.receive(&wrap(&bytes)).is_err());
        let mut chunks = crate::wire::MAGIC.to_vec();
        chunks.extend_from_slice(&bytes);
        prop_assert!(place.receive(&chunks).is_err());
    }
}

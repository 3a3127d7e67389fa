//! Streams that were damaged or made up: typed errors, nothing outside the root, no panic, and
//! never success.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::wire::{Attributes, ChunkReader, ChunkWriter, Frame, MAX_FRAME, MAX_PATH, Time};
use crate::{
    Budget, Error, FrameReader, FrameWriter, Options, Result, Round, Section, Survey, TreeId,
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
    send_images(&mut out, &id, &images, || true).unwrap();
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
fn paths_that_lead_out_are_refused() {
    let place = Place::new();
    let outside = place.outside().join("new");
    let absolute = std::os::unix::ffi::OsStrExt::as_bytes(outside.as_os_str());
    let long = vec![b'x'; 256];
    for path in [
        b"../outside/new".as_slice(),
        b"..",
        b".",
        b"a/../../outside/new",
        b"a//b",
        b"a/",
        b"/",
        b"a/./b",
        b"nul\0byte",
        b".mycedrive-staging",
        b".mycedrive-staging/0",
        absolute,
        &long,
    ] {
        for frame in [
            Frame::MakeDir { path },
            Frame::File {
                update: false,
                size: 1,
                path,
            },
            Frame::File {
                update: true,
                size: 1,
                path,
            },
            Frame::Link {
                existing: path,
                path: b"name",
            },
            Frame::Link {
                existing: b"name",
                path,
            },
            Frame::Node {
                kind: libc::S_IFIFO,
                device: 0,
                target: b"",
                path,
            },
            Frame::Node {
                kind: libc::S_IFLNK,
                device: 0,
                target: b"t",
                path,
            },
            Frame::Remove {
                directory: false,
                path,
            },
            Frame::Remove {
                directory: true,
                path,
            },
            Frame::Park { slot: 0, path },
            Frame::Attr {
                attributes: Attributes::default(),
                path,
            },
        ] {
            let error = place
                .receive(&stream_of(std::slice::from_ref(&frame)))
                .unwrap_err();
            assert!(matches!(error, Error::Path { .. }), "{frame:?}: {error}");
        }
    }
}

#[test]
fn symlinks_placed_earlier_are_not_followed() {
    let place = Place::new();
    for target in [b"../outside".as_slice(), b"/var/tmp", b"/proc/self/root"] {
        let symlink = Frame::Node {
            kind: libc::S_IFLNK,
            device: 0,
            target,
            path: b"out",
        };
        for frame in [
            Frame::MakeDir { path: b"out/new" },
            Frame::File {
                update: false,
                size: 1,
                path: b"out/new",
            },
            Frame::File {
                update: true,
                size: 1,
                path: b"out/file",
            },
            Frame::Link {
                existing: b"out/file",
                path: b"stolen",
            },
            Frame::Link {
                existing: b"out",
                path: b"out/new",
            },
            Frame::Remove {
                directory: false,
                path: b"out/file",
            },
            Frame::Park {
                slot: 0,
                path: b"out/file",
            },
            Frame::Attr {
                attributes: Attributes::default(),
                path: b"out/file",
            },
        ] {
            let error = place
                .receive(&stream_of(&[symlink.clone(), frame.clone()]))
                .unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{frame:?}: {error}");
        }
    }
}

#[test]
fn a_file_that_is_a_symlink_is_not_opened() {
    let place = Place::new();
    let frames = [
        Frame::Node {
            kind: libc::S_IFLNK,
            device: 0,
            target: b"../outside/file",
            path: b"f",
        },
        Frame::File {
            update: true,
            size: 0,
            path: b"f",
        },
    ];
    assert!(matches!(
        place.receive(&stream_of(&frames)),
        Err(Error::Io { .. })
    ));
    let frames = [
        Frame::Node {
            kind: libc::S_IFIFO,
            device: 0,
            target: b"",
            path: b"f",
        },
        Frame::File {
            update: true,
            size: 0,
            path: b"f",
        },
    ];
    assert!(place.receive(&stream_of(&frames)).is_err());
}

#[test]
fn device_nodes_are_refused_where_none_may_come() {
    let place = Place::new();
    let disk = libc::makedev(254, 0);
    for (kind, device) in [(libc::S_IFBLK, disk), (libc::S_IFCHR, libc::makedev(1, 1))] {
        let node = Frame::Node {
            kind,
            device,
            target: b"",
            path: b"disk",
        };
        let error = place.receive(&stream_of(&[node])).unwrap_err();
        assert!(error.to_string().contains("device node"), "{error}");
    }
}

#[test]
fn a_survey_stores_nothing_and_checks_everything() {
    let node = Frame::Node {
        kind: libc::S_IFBLK,
        device: libc::makedev(254, 0),
        target: b"",
        path: b"disk",
    };
    let attributes = Attributes {
        mode: 0o4755,
        ..Attributes::default()
    };
    let frames = [
        Frame::MakeDir { path: b"d" },
        node,
        Frame::File {
            update: false,
            size: 3,
            path: b"d/f",
        },
        Frame::Data {
            offset: 0,
            bytes: b"abc",
        },
        Frame::Attr {
            attributes,
            path: b"d/f",
        },
    ];
    let survey = |stream: &[u8]| -> Result<Survey> {
        let mut reader = FrameReader::new(stream, &budget())?;
        let mut all = Survey::default();
        while let Some(section) = reader.next_section()? {
            all.add(&reader.skip_section(&section)?);
        }
        Ok(all)
    };
    let stream = stream_of(&frames);
    let expected = Survey {
        files: 1,
        directories: 1,
        devices: 1,
        setuid: 1,
        bytes: 3,
        ..Survey::default()
    };
    assert_eq!(survey(&stream).unwrap(), expected);
    for cut in 0..stream.len() {
        assert!(survey(&stream[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..stream.len() {
        let mut changed = stream.clone();
        changed[at] ^= 1;
        assert!(survey(&changed).is_err(), "changed at {at}");
    }
    let image = Frame::ImageSize { file: 0, size: 1 };
    assert!(matches!(
        survey(&stream_of(&[image])),
        Err(Error::Unexpected { .. })
    ));
}

#[test]
fn sizes_beyond_the_budget_are_refused() {
    let place = Place::new();
    for size in [(1 << 20) + 1, u64::MAX, i64::MAX as u64] {
        let error = place
            .receive(&stream_of(&[Frame::File {
                update: false,
                size,
                path: b"f",
            }]))
            .unwrap_err();
        assert!(matches!(error, Error::Budget { .. }), "{error}");
    }
    let file = Frame::File {
        update: false,
        size: 10,
        path: b"f",
    };
    for outside in [
        Frame::Data {
            offset: 8,
            bytes: b"abc",
        },
        Frame::Data {
            offset: u64::MAX,
            bytes: b"abc",
        },
        Frame::Hole {
            offset: 0,
            length: 11,
        },
        Frame::Hole {
            offset: u64::MAX,
            length: u64::MAX,
        },
    ] {
        let error = place
            .receive(&stream_of(&[file.clone(), outside]))
            .unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }
}

#[test]
fn too_many_entries_and_too_many_bytes_are_refused() {
    let place = Place::new();
    let names: Vec<String> = (0..101).map(|number| format!("d{number}")).collect();
    let dirs: Vec<_> = names
        .iter()
        .map(|name| Frame::MakeDir {
            path: name.as_bytes(),
        })
        .collect();
    let error = place.receive(&stream_of(&dirs)).unwrap_err();
    assert!(matches!(error, Error::Budget { limit: 100, .. }), "{error}");
    // A bomb: a few kilobytes that unpack to more than the budget.
    let zeros = vec![0; 1 << 19];
    let data = Frame::Data {
        offset: 0,
        bytes: &zeros,
    };
    let file = Frame::File {
        update: false,
        size: 1 << 19,
        path: b"f",
    };
    let stream = stream_of(&[file, data.clone(), data.clone(), data]);
    assert!(stream.len() < 8192);
    assert!(matches!(place.receive(&stream), Err(Error::Budget { .. })));
}

#[test]
fn frames_out_of_place_are_refused() {
    let place = Place::new();
    let attributes = Attributes {
        mode: 0o600,
        mtime: Time {
            seconds: 1,
            nanos: 2,
        },
        ..Attributes::default()
    };
    let file = Frame::File {
        update: false,
        size: 4,
        path: b"f",
    };
    for frames in [
        vec![Frame::Data {
            offset: 0,
            bytes: b"x",
        }],
        vec![file.clone()],
        vec![file.clone(), Frame::MakeDir { path: b"d" }],
        vec![
            file,
            Frame::Attr {
                attributes,
                path: b"other",
            },
        ],
        vec![Frame::Unpark {
            slot: 0,
            path: b"x",
        }],
        vec![Frame::ImageSize { file: 0, size: 0 }],
        vec![Frame::TreeBegin {
            id: b"tree",
            session: 1,
            base: 0,
            round: 1,
        }],
    ] {
        let error = place.receive(&stream_of(&frames)).unwrap_err();
        assert!(
            matches!(error, Error::Unexpected { .. }),
            "{frames:?}: {error}"
        );
    }
}

#[test]
fn something_left_parked_is_an_error() {
    let place = Place::new();
    let frames = [
        Frame::Node {
            kind: libc::S_IFIFO,
            device: 0,
            target: b"",
            path: b"f",
        },
        Frame::Park {
            slot: 3,
            path: b"f",
        },
    ];
    assert!(matches!(
        place.receive(&stream_of(&frames)),
        Err(Error::Unexpected { .. })
    ));
    // What it left behind is cleared by the next full round.
    place.receive(&good_stream()).unwrap();
    assert!(!place.root().join(".mycedrive-staging").exists());
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

#[test]
fn image_paths_that_lead_out_are_refused() {
    let place = Place::new();
    for path in [
        b"../outside/new".as_slice(),
        b"/x",
        b"",
        b"a/b/c/d/e",
        b"a/../b",
    ] {
        let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
        out.put(&Frame::ImagesBegin { id: b"i" }).unwrap();
        out.put(&Frame::ImageFile { file: 0, path }).unwrap();
        let error = place.receive(&out.finish().unwrap().0).unwrap_err();
        assert!(matches!(error, Error::Path { .. }), "{error}");
    }
}

#[test]
fn what_the_format_forbids_is_not_written() {
    let mut out = FrameWriter::new(Vec::new(), &Options::default()).unwrap();
    let big = vec![0; MAX_FRAME];
    let error = out
        .put(&Frame::Data {
            offset: 0,
            bytes: &big,
        })
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let long = vec![b'x'; MAX_PATH + 1];
    assert!(Frame::decode(0x13, &long).is_err());
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

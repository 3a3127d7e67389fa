//! Sizes, counts and orders that the budget or the format forbids.

use super::{Place, budget, good_stream, stream_of};
use crate::wire::{Attributes, Frame, MAX_FRAME, MAX_PATH, Time};
use crate::{Error, FrameReader, FrameWriter, Options, Result, Survey};

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

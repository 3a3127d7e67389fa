//! Paths, links and nodes that lead out of the place, or are not wanted in it.

use super::{Place, stream_of};
use crate::wire::{Attributes, Frame};
use crate::{Error, FrameWriter, Options};

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
        out.put(&Frame::ImagesBegin { id: b"images" }).unwrap();
        out.put(&Frame::ImageFile { file: 0, path }).unwrap();
        let error = place.receive(&out.finish().unwrap().0).unwrap_err();
        assert!(matches!(error, Error::Path { .. }), "{error}");
    }
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

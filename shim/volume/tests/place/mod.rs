//! A volume for a test, and what is done in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mycedrive_volume::{Found, end, find, init, layers, mount, receive, undisturbed, unmount};

use crate::common::{Snapshot, is_root, set_xattr, snapshot, tempdir};

pub fn ready() -> bool {
    if !is_root() {
        eprintln!("skipped: mounting needs root");
    }
    is_root()
}

/// A volume and a mount point.
pub struct Place {
    _folder: Option<tempfile::TempDir>,
    pub volume: PathBuf,
    pub target: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempdir();
        let at = folder.path().to_owned();
        let place = Self::within(Some(folder), &at);
        fs::create_dir(&place.volume).unwrap();
        fs::create_dir(&place.target).unwrap();
        fs::set_permissions(&place.volume, fs::Permissions::from_mode(0o2775)).unwrap();
        place
    }

    /// The one in this folder, as it is there.
    pub fn at(folder: &Path) -> Self {
        Self::within(None, folder)
    }

    fn within(kept: Option<tempfile::TempDir>, folder: &Path) -> Self {
        Self {
            _folder: kept,
            volume: folder.join("volume"),
            target: folder.join("merged"),
        }
    }

    pub fn init(&self) {
        init(&self.volume, &mut undisturbed).unwrap();
    }

    /// Works in the mounted stack; returns what it looked like at the end.
    pub fn mounted(&self, work: impl FnOnce(&Path)) -> Snapshot {
        mount(&self.volume, &self.target).unwrap();
        work(&self.target);
        let seen = snapshot(&self.target);
        unmount(&self.volume, &self.target).unwrap();
        seen
    }

    pub fn end(&self) {
        end(&self.volume, &mut undisturbed).unwrap();
        assert_eq!(find(&self.volume).unwrap(), Found::Plain);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = unmount(&self.volume, &self.target);
    }
}

#[track_caller]
pub fn same(seen: &Snapshot, now: &Snapshot, exactly: bool) {
    let strip = |all: &Snapshot| -> Snapshot {
        let mut all = all.clone();
        for entry in all.values_mut() {
            // Where data lies in a file may change when it is copied up.
            entry.segments.clear();
            // What is cut is gone on with: the times of directories then are those of the end.
            if !exactly && entry.mode & libc::S_IFMT == libc::S_IFDIR {
                entry.mtime = (0, 0);
            }
        }
        all
    };
    let (seen, now) = (strip(seen), strip(now));
    for (path, entry) in &seen {
        let other = now.get(path);
        assert_eq!(other, Some(entry), "{}", path.escape_ascii());
    }
    for path in now.keys() {
        assert!(seen.contains_key(path), "new: {}", path.escape_ascii());
    }
}

/// Every kind of thing that a layer can hold.
pub fn content(root: &Path) {
    for name in ["a/b/c", "old/deep/er", "gone/with", "kept", "turns"] {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::write(root.join(name).join("file"), name).unwrap();
    }
    for number in 0..4 {
        fs::write(root.join(format!("plain-{number}")), vec![b'x'; 5000]).unwrap();
    }
}

pub fn changes(root: &Path) {
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::create_dir_all(root.join("gone/new")).unwrap();
    fs::write(root.join("gone/new/file"), "new").unwrap();
    // Renamed, and something out of it renamed elsewhere, and its name taken again.
    fs::rename(root.join("old/deep"), root.join("a/was-deep")).unwrap();
    fs::rename(root.join("old"), root.join("moved")).unwrap();
    fs::create_dir(root.join("old")).unwrap();
    fs::write(root.join("old/another"), "1").unwrap();
    fs::write(root.join("moved/file"), "changed").unwrap();
    fs::remove_dir_all(root.join("turns")).unwrap();
    fs::write(root.join("turns"), "into a file").unwrap();
    fs::remove_file(root.join("plain-0")).unwrap();
    fs::create_dir_all(root.join("plain-0/now/a/directory")).unwrap();
    fs::rename(root.join("kept"), root.join("plain-0/now/kept")).unwrap();
    fs::remove_file(root.join("plain-1")).unwrap();
    fs::hard_link(root.join("plain-2"), root.join("a/b/link")).unwrap();
    // Names that OverlayFS keeps for itself, one of them as a stack in this one would have it. The
    // kernel gives them to containers since 6.7.
    for name in ["trusted.overlay.opaque", "trusted.overlay.overlay.origin"] {
        set_xattr(&root.join("plain-2"), name, b"own");
        set_xattr(&root.join("a"), name, b"own");
    }
    fs::write(root.join("plain-3"), "appended").unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o3770)).unwrap();
}

pub fn stack_with_changes(place: &Place) -> Snapshot {
    content(&place.volume);
    place.init();
    place.mounted(changes)
}

/// Another node's layers come to a volume.
pub fn received(layers: &[PathBuf], volume: &Path) {
    let to = receive::begin(volume, layers.len() as u32).unwrap();
    for (from, to) in layers.iter().zip(&to) {
        mycedrive_transfer::access::copy_tree(from, to).unwrap();
    }
}

/// A volume with something in it, to which all of another node's stack has come. What that one
/// looked like.
pub fn with_received(place: &Place) -> Snapshot {
    let from = Place::new();
    let seen = stack_with_changes(&from);
    fs::write(place.volume.join("before"), "of the volume").unwrap();
    received(&layers(&from.volume).unwrap(), &place.volume);
    seen
}

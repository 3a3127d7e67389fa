use std::fs;

use super::{dmtcp_in, mirror_in, set_by_cargo};

#[test]
fn finds_the_archive_in_both_formats() {
    let list = "# deb http://old.example/debian x\ndeb [arch=amd64] http://mirror.example/debian forky main\n";
    assert_eq!(mirror_in(list).unwrap(), "http://mirror.example/debian");
    let deb822 = "Types: deb\nURIs: http://mirror.example/debian/\nSuites: forky\n";
    assert_eq!(mirror_in(deb822).unwrap(), "http://mirror.example/debian/");
    assert_eq!(mirror_in("deb http://mirror.example/other x main"), None);
}

#[test]
fn tells_what_cargo_sets_for_a_program_from_what_a_user_sets() {
    assert!(set_by_cargo("CARGO_PKG_NAME") && set_by_cargo("CARGO_MANIFEST_DIR"));
    assert!(set_by_cargo("OUT_DIR"));
    for users in ["CARGO_TARGET_DIR", "CARGO_HOME", "CARGO", "PATH"] {
        assert!(!set_by_cargo(users), "{users}");
    }
}

#[test]
fn dmtcp_is_found_in_its_place_and_by_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let install = |name: &str| {
        fs::create_dir_all(root.join(name).join("bin")).unwrap();
        fs::write(root.join(name).join("bin/dmtcp_launch"), "").unwrap();
        root.join(name)
    };
    let (usual, empty) = (root.join("usual"), root.join("empty"));
    assert_eq!(dmtcp_in(&usual, [empty.clone()].into_iter()), None);
    let other = install("other");
    let path = || [empty.clone(), other.join("bin")].into_iter();
    assert_eq!(dmtcp_in(&usual, path()), Some(other.clone()));
    // By a link as well.
    let links = root.join("links");
    fs::create_dir(&links).unwrap();
    std::os::unix::fs::symlink(other.join("bin/dmtcp_launch"), links.join("dmtcp_launch")).unwrap();
    assert_eq!(dmtcp_in(&usual, [links].into_iter()), Some(other.clone()));
    assert_eq!(install("usual"), usual);
    assert_eq!(dmtcp_in(&usual, path()), Some(usual.clone()));
}

//! Node images of trees that are there. That of Debian takes minutes and the net; it is made with
//! `mycedrive-installer image` by hand.

mod common;

use std::path::Path;
use std::process::Command;

use common::{picture, temporary};
use mycedrive_installer::image::{Tree, make};
use mycedrive_installer::{root::Root, status};

fn missing(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("skipped: {program} is not installed");
    }
    !there
}

#[allow(clippy::unwrap_used)] // a test's helper
fn unpack(archive: &Path, to: &Path) {
    let output = Command::new("tar")
        .args(["--extract", "--numeric-owner", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(to)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_existing_tree() {
    if missing("tar") || missing("zstd") {
        return;
    }
    let tree = common::Tree::debian("2.1.9~ds1-1");
    tree.link("bin", "usr/bin");
    let out = temporary();
    let archive = out.path().join("node.tar.zst");
    let from = Tree::Existing(tree.path().to_path_buf());
    let made = make(&from, &archive, &tree.options()).unwrap();
    assert!(made.outcome.runtime_changed);
    assert_eq!(made.bytes, std::fs::metadata(&archive).unwrap().len());
    let magic = &std::fs::read(&archive).unwrap()[..4];
    assert_eq!(magic, [0x28, 0xb5, 0x2f, 0xfd], "not zstd");

    let unpacked = temporary();
    unpack(&archive, unpacked.path());
    assert_eq!(picture(unpacked.path()), tree.picture());
    let status = status::status(&Root::open(unpacked.path()).unwrap()).unwrap();
    assert!(status.complete(), "{status:?}");
    let left = std::fs::read_dir(out.path()).unwrap().count();
    assert_eq!(left, 1, "something is left beside the image");
}

#[test]
fn nothing_is_replaced_and_nothing_half_is_left() {
    if missing("tar") {
        return;
    }
    let tree = common::Tree::debian("2.1.9~ds1-1");
    let out = temporary();
    let archive = out.path().join("node.tar");
    std::fs::write(&archive, "precious").unwrap();
    let from = Tree::Existing(tree.path().to_path_buf());
    let before = tree.picture();
    let error = make(&from, &archive, &tree.options()).unwrap_err();
    assert!(error.to_string().contains("there already"), "{error}");
    assert_eq!(tree.picture(), before);
    assert_eq!(std::fs::read_to_string(&archive).unwrap(), "precious");

    let nowhere = Tree::Existing(tree.at("no/such"));
    let other = out.path().join("other.tar");
    assert!(make(&nowhere, &other, &tree.options()).is_err());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}

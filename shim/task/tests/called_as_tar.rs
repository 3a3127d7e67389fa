//! The shim's program called as `tar`, as the CRIU that it starts does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CREATE: &str = "--create --gzip --no-unquote --no-wildcards --one-file-system --check-links \
    --preserve-permissions --sparse --numeric-owner --directory /proc/self/fd/0 .";
const EXTRACT: &str = "--extract --gzip --no-unquote --no-wildcards --directory";

/// Runs it with our directory first in `PATH`, as CRIU's is.
fn tar(ours: &Path, stdin: File, arguments: &[&str]) -> Output {
    fs::create_dir_all(ours).unwrap();
    let link = ours.join("tar");
    if !link.exists() {
        symlink(env!("CARGO_BIN_EXE_containerd-shim-mycedrive-v2"), &link).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    Command::new(&link)
        .arg0("tar")
        .args(arguments)
        .env("PATH", format!("{}:{path}", ours.display()))
        .env("MYCEDRIVE_TAR_DIRECTORY", ours)
        .stdin(stdin)
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

/// Archives and unpacks a directory. Returns what was said, and how many files came.
fn there_and_back(outer: &Path, from: &Path) -> (String, usize) {
    let (ours, to) = (outer.join("tools"), outer.join("to"));
    fs::create_dir(&to).unwrap();
    let create: Vec<&str> = CREATE.split_whitespace().collect();
    let made = tar(&ours, File::open(from).unwrap(), &create);
    let mut said = String::from_utf8(made.stderr).unwrap();
    assert!(made.status.success(), "{said}");
    let archive = outer.join("archive");
    fs::write(&archive, made.stdout).unwrap();
    let mut extract: Vec<&str> = EXTRACT.split_whitespace().collect();
    extract.push(to.to_str().unwrap());
    let unpacked = tar(&ours, File::open(&archive).unwrap(), &extract);
    said += &String::from_utf8(unpacked.stderr).unwrap();
    assert!(unpacked.status.success(), "{said}");
    (said, fs::read_dir(&to).unwrap().count())
}

#[test]
fn it_does_what_is_simple() {
    let outer = tempfile::tempdir().unwrap();
    let from = outer.path().join("from");
    fs::create_dir(&from).unwrap();
    symlink("/proc/self/fd/0", from.join("stdin")).unwrap();
    fs::write(from.join("file"), "some").unwrap();
    assert_eq!(there_and_back(outer.path(), &from), (String::new(), 2));
    let file = outer.path().join("to/file");
    assert_eq!(fs::read(&file).unwrap(), b"some");
}

#[test]
fn it_leaves_the_rest_to_the_nodes_tar() {
    let outer = tempfile::tempdir().unwrap();
    let from = outer.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("one"), "some").unwrap();
    fs::hard_link(from.join("one"), from.join("other")).unwrap();
    fs::set_permissions(from.join("one"), fs::Permissions::from_mode(0o640)).unwrap();
    let (said, count) = there_and_back(outer.path(), &from);
    assert_eq!(
        said.matches("the node's own tar takes this one").count(),
        2,
        "{said}"
    );
    assert!(said.contains("a file has several names"), "{said}");
    assert!(said.contains("it has entries of other kinds"), "{said}");
    assert_eq!(count, 2);
}

#[test]
fn a_tar_that_is_missing_is_an_error() {
    let outer = tempfile::tempdir().unwrap();
    let missing = Command::new(env!("CARGO_BIN_EXE_containerd-shim-mycedrive-v2"))
        .arg0("tar")
        .arg("--list")
        .env("PATH", outer.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(!missing.status.success());
    assert!(said.contains("cannot run the node's own tar"), "{said}");
}

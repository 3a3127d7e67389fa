use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::*;

/// A root file system with this very test program as `/usr/bin/tool`.
fn image() -> (tempfile::TempDir, Image) {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("usr/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy(std::env::current_exe().unwrap(), bin.join("tool")).unwrap();
    // Absolute, so it must be followed inside the image.
    symlink("/usr/bin", root.path().join("bin")).unwrap();
    let image = Image::open(root.path()).unwrap();
    (root, image)
}

fn script(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn spec(args: &[&str]) -> Value {
    json!({ "process": { "args": args, "env": ["PATH=/nowhere:/bin"], "cwd": "/usr" } })
}

#[test]
fn a_program_is_found_as_exec_finds_it() {
    let (_root, image) = image();
    for name in ["tool", "/bin/tool", "bin/tool"] {
        let program = Program::of(&spec(&[name, "-x"]), &image).unwrap();
        assert_eq!(program.name(), "tool");
        assert!(program.elf.interpreter.is_some(), "{name}");
        assert!(program.elf.needed.iter().any(|name| name == "libc.so.6"));
        assert!(!program.privileged);
    }
    assert!(
        Program::of(&spec(&["other"]), &image)
            .unwrap_err()
            .contains("other")
    );
}

/// That one script of an interpreter died says nothing of another one.
#[test]
fn an_interpreter_is_not_the_program() {
    let (root, image) = image();
    script(root.path(), "one", "#!/bin/tool\necho 1\n");
    script(root.path(), "two", "#!/bin/tool\necho 2\n");
    let digest = |args: &[&str]| Program::of(&spec(args), &image).unwrap().digest;
    assert_eq!(digest(&["tool", "-c", "x"]), digest(&["tool", "-c", "x"]));
    assert_ne!(digest(&["tool", "-c", "x"]), digest(&["tool", "-c", "y"]));
    assert_ne!(digest(&["tool", "a", "b"]), digest(&["tool", "ab"]));
    let before = digest(&["/one"]);
    assert_ne!(before, digest(&["/two"]));
    script(root.path(), "one", "#!/bin/tool\necho 2\n");
    assert_ne!(before, digest(&["/one"]));
}

#[test]
fn scripts_lead_to_their_interpreter() {
    let (root, image) = image();
    script(root.path(), "one", "#!/bin/tool -e\necho\n");
    script(root.path(), "two", "#! /one\n");
    script(root.path(), "usr/bin/env", "");
    script(root.path(), "three", "#!/usr/bin/env tool\n");
    for name in ["/one", "/two", "/three"] {
        assert_eq!(Program::of(&spec(&[name]), &image).unwrap().name(), "tool");
    }
    script(root.path(), "loop", "#!/loop\n");
    assert!(Program::of(&spec(&["/loop"]), &image).is_err());
}

#[test]
fn what_lies_outside_of_the_image_is_not_read() {
    let (root, image) = image();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    symlink(outside.path().join("secret"), root.path().join("out")).unwrap();
    assert!(Program::of(&spec(&["/out"]), &image).is_err());
    assert!(Program::of(&spec(&["../../../../bin/sh"]), &image).is_err());
}

#[test]
fn no_program_and_no_elf_are_told() {
    let (root, image) = image();
    assert!(Program::of(&json!({}), &image).is_err());
    script(root.path(), "text", "hello");
    assert!(Program::of(&spec(&["/text"]), &image).is_err());
}

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::EngineKind;

fn here() -> Here {
    Here {
        engine: Capabilities {
            kind: EngineKind::Criu,
            version: "4.2.1".to_owned(),
        },
        terminal: false,
    }
}

/// A sealed checkpoint with two files.
fn sealed() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("inventory.img"), "inventory").unwrap();
    fs::write(directory.path().join("pages-1.img"), vec![7; 300_000]).unwrap();
    let container = ContainerEntry {
        name: "redis".to_owned(),
        image: "redis:8".to_owned(),
        terminal: false,
    };
    seal(directory.path(), &here().engine, vec![container]).unwrap();
    directory
}

fn refused(directory: &TempDir) -> Misfit {
    match check(directory.path(), &here()) {
        Err(EngineError::Misfit { misfit, .. }) => misfit,
        other => panic!("expected a refusal: {other:?}"),
    }
}

/// Changes the manifest of a checkpoint.
fn change(directory: &TempDir, pointer: &str, value: Value) {
    let path = directory.path().join(MANIFEST);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    match manifest.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => manifest[&pointer[1..]] = value,
    }
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn what_was_sealed_fits() {
    let directory = sealed();
    let manifest = check(directory.path(), &here()).unwrap().unwrap();
    assert_eq!(manifest.engine, "criu");
    assert_eq!(manifest.files.len(), 2);
    assert_eq!(manifest.files[1].bytes, 300_000);
}

/// A place in the manifest, what is put there, and what is to be said of it.
type Case = (&'static str, Value, fn(&Misfit) -> bool);

#[test]
fn what_does_not_fit_is_named() {
    let cases: [Case; 8] = [
        ("/format", json!(9), |m| {
            matches!(m, Misfit::Format { found: 9, .. })
        }),
        ("/engine", json!("dmtcp"), |m| {
            matches!(m, Misfit::Engine { .. })
        }),
        ("/engine_version", json!("4.10"), |m| {
            matches!(m, Misfit::EngineVersion { .. })
        }),
        ("/architecture", json!("s390x"), |m| {
            matches!(m, Misfit::Architecture { .. })
        }),
        ("/cpu_features", json!(["avx9000"]), |m| {
            m.to_string().contains("avx9000")
        }),
        ("/containers", json!([]), |m| {
            matches!(m, Misfit::Containers { count: 0 })
        }),
        ("/containers/0/terminal", json!(true), |m| {
            matches!(m, Misfit::Terminal { had: true })
        }),
        ("/capabilities", json!(["CAP_SYS_ADMIN"]), |m| {
            matches!(m, Misfit::Unreadable { .. })
        }),
    ];
    for (pointer, value, right) in cases {
        let directory = sealed();
        change(&directory, pointer, value);
        let misfit = refused(&directory);
        assert!(right(&misfit), "{pointer}: {misfit}");
    }
}

#[test]
fn files_are_what_the_manifest_says() {
    let directory = sealed();
    let pages = directory.path().join("pages-1.img");
    let mut content = fs::read(&pages).unwrap();
    content[299_999] = 8;
    fs::write(&pages, &content).unwrap();
    assert!(matches!(refused(&directory), Misfit::Digest { name } if name == "pages-1.img"));
    content.pop();
    fs::write(&pages, &content).unwrap();
    assert!(matches!(
        refused(&directory),
        Misfit::Size { found: 299_999, .. }
    ));
    fs::remove_file(&pages).unwrap();
    assert!(matches!(refused(&directory), Misfit::Missing { .. }));
}

#[test]
fn nothing_may_be_added() {
    let directory = sealed();
    // CRIU would read pages from wherever it leads.
    symlink("/", directory.path().join("parent")).unwrap();
    assert!(matches!(refused(&directory), Misfit::NotAFile { name } if name == "parent"));

    let directory = sealed();
    fs::write(directory.path().join("core-9.img"), "").unwrap();
    assert!(matches!(refused(&directory), Misfit::Unlisted { name } if name == "core-9.img"));

    let directory = sealed();
    let pages = directory.path().join("pages-1.img");
    fs::remove_file(&pages).unwrap();
    symlink("/etc/passwd", &pages).unwrap();
    assert!(matches!(refused(&directory), Misfit::NotAFile { .. }));

    let directory = sealed();
    nix::unistd::mkfifo(
        &directory.path().join("fifo"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    assert!(matches!(refused(&directory), Misfit::NotAFile { .. }));
}

#[test]
fn names_stay_in_the_directory() {
    for name in ["../../etc/passwd", "/etc/passwd", "..", "", "a/b", "a\0b"] {
        let directory = sealed();
        change(&directory, "/files/0/name", json!(name));
        assert!(
            matches!(refused(&directory), Misfit::Name { .. }),
            "{name:?}"
        );
    }
    let directory = sealed();
    change(&directory, "/files/0/name", json!("pages-1.img"));
    assert!(matches!(refused(&directory), Misfit::Unreadable { .. }));
    fs::write(directory.path().join(MANIFEST), "{").unwrap();
    assert!(matches!(refused(&directory), Misfit::Unreadable { .. }));
    fs::remove_file(directory.path().join(MANIFEST)).unwrap();
    symlink("/dev/zero", directory.path().join(MANIFEST)).unwrap();
    assert!(matches!(refused(&directory), Misfit::NotAFile { .. }));
}

/// Seals a directory with an image of DMTCP's, whose list has this digest of it.
fn seal_dmtcp(directory: &Path, image: &str, digest: &str) -> Capabilities {
    fs::write(directory.join(image), "memory").unwrap();
    let images = json!([{ "name": "ckpt_a.dmtcp", "size": 6, "digest": digest }]);
    let list = json!({ "version": "4.1.1", "peers": 1, "images": images });
    fs::write(directory.join("mycedrive-dmtcp.json"), list.to_string()).unwrap();
    let engine = Capabilities {
        kind: EngineKind::Dmtcp,
        version: "4.1.1".to_owned(),
    };
    let container = ContainerEntry {
        name: "redis".to_owned(),
        image: String::new(),
        terminal: false,
    };
    seal(directory, &engine, vec![container]).unwrap();
    engine
}

#[test]
fn what_dmtcps_list_has_read_is_not_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let digest = blake3::hash(b"memory").to_hex().to_string();
    for (digest, fits) in [(digest.as_str(), true), ("another", false)] {
        let engine = seal_dmtcp(directory.path(), "ckpt_a.dmtcp", digest);
        let there = Here {
            engine,
            terminal: false,
        };
        assert_eq!(check(directory.path(), &there).is_ok(), fits);
    }
}

#[test]
fn dmtcp_has_a_folder() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("dmtcp")).unwrap();
    let engine = seal_dmtcp(directory.path(), "dmtcp/ckpt_a.dmtcp", "unread");
    let terminal = false;
    let there = Here { engine, terminal };
    let manifest = check(directory.path(), &there).unwrap().unwrap();
    assert_eq!(manifest.files.len(), 1);
    // CRIU has none.
    assert!(matches!(refused(&directory), Misfit::NotAFile { .. }));
    clear(directory.path()).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn of_another_program_or_of_none() {
    let directory = sealed();
    fs::remove_file(directory.path().join(MANIFEST)).unwrap();
    assert_eq!(check(directory.path(), &here()).unwrap(), None);
    fs::remove_file(directory.path().join("inventory.img")).unwrap();
    assert!(matches!(refused(&directory), Misfit::NoCheckpoint));
}

#[test]
fn a_directory_is_used_again_but_nothing_of_others_is_removed() {
    let directory = sealed();
    clear(directory.path()).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    clear(&directory.path().join("not there")).unwrap();
    fs::write(directory.path().join("precious"), "x").unwrap();
    let error = clear(directory.path()).unwrap_err();
    assert!(error.to_string().contains("precious"), "{error}");
    assert!(directory.path().join("precious").exists());
}

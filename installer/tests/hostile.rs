//! Trees that try to make the installer leave them.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{CUSTOM_2, Tree, picture};
use mycedrive_installer::doctor;
use mycedrive_installer::root::{Attributes, Kind, Root};
use tempfile::TempDir;

/// Something outside of the tree, with the names that the installer uses.
fn outside() -> TempDir {
    let dir = TempDir::new().unwrap();
    for path in ["containerd/conf.d", "bin", "systemd/system", "criu"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    fs::write(dir.path().join("containerd/config.toml"), CUSTOM_2).unwrap();
    fs::write(dir.path().join("victim"), "untouched").unwrap();
    dir
}

#[test]
fn no_symlink_leads_out() {
    let outside = outside();
    let away = outside.path().to_str().unwrap();
    let up = format!("{}{away}", "../".repeat(20));
    let before = picture(outside.path());
    for target in [away, up.as_str()] {
        for link in [
            "etc/containerd",
            "usr/local/bin",
            "etc/systemd/system",
            "etc/criu",
            "etc/mycedrive",
            "var/lib/mycedrive",
            "var/lib/mycedrive/installer",
        ] {
            let tree = Tree::debian("1.7.24~ds1-6");
            let _ = fs::remove_dir(tree.at(link));
            tree.link(link, target);
            let inside = tree.picture();
            // Absolute targets mean paths inside the tree, which are not there.
            let error = tree.install().unwrap_err();
            assert_eq!(tree.picture(), inside, "{link} -> {target}: {error}");
            assert_eq!(picture(outside.path()), before, "{link} -> {target}");
        }
    }
}

#[test]
fn no_symlinked_file_leads_out() {
    let outside = outside();
    let victim = outside.path().join("victim");
    let victim = victim.to_str().unwrap();
    let before = picture(outside.path());
    for link in [
        "etc/containerd/config.toml",
        "usr/local/bin/mycedrive",
        "usr/local/bin/.mycedrive.mycedrive-tmp",
        "etc/systemd/system/mycedrive.service",
        "etc/mycedrive/config.toml",
        "etc/criu/runc.conf",
        "var/lib/mycedrive/installer/manifest.json",
        "var/lib/mycedrive/installer/transaction/journal.json",
        "var/lib/dpkg/status",
    ] {
        let tree = Tree::debian("1.7.24~ds1-6");
        let _ = fs::remove_file(tree.at(link));
        tree.link(link, victim);
        let _ = tree.install();
        let _ = doctor::examine(&tree.root());
        let _ = tree.uninstall();
        assert_eq!(picture(outside.path()), before, "{link}");
    }
}

#[test]
fn absolute_symlinks_mean_the_tree() {
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.dir("opt/etc-containerd");
    tree.link("etc/containerd", "/opt/etc-containerd");
    let before = tree.picture();
    tree.install().unwrap();
    assert!(tree.exists("opt/etc-containerd/config.toml"));
    tree.uninstall().unwrap();
    assert_eq!(tree.picture(), before);
}

#[test]
fn special_files_and_loops_are_refused() {
    for path in ["etc/containerd/config.toml", "usr/local/bin/mycedrive"] {
        let tree = Tree::debian("1.7.24~ds1-6");
        tree.dir("etc/containerd");
        let made = Command::new("mkfifo").arg(tree.at(path)).status().unwrap();
        assert!(made.success());
        let before = tree.picture();
        tree.install().unwrap_err();
        assert_eq!(tree.picture(), before);
    }
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.link("etc/containerd/config.toml", "config.toml");
    let before = tree.picture();
    tree.install().unwrap_err();
    assert_eq!(tree.picture(), before);
}

#[test]
fn a_forged_record_reaches_nothing() {
    let outside = outside();
    let before = picture(outside.path());
    for digest in ["../../../../etc/passwd", "x", ""] {
        let tree = Tree::debian("1.7.24~ds1-6");
        let was = format!(r#"{{"kind":"file","digest":"{digest}","mode":420,"uid":0,"gid":0}}"#);
        let path = outside.path().join("victim");
        tree.file(
            "var/lib/mycedrive/installer/manifest.json",
            &format!(
                r#"{{"format":1,"version":"0","entries":[{{"path":"{}","purpose":"program","before":{was},"after":{{"kind":"absent"}}}}]}}"#,
                path.display()
            ),
        );
        assert!(tree.uninstall().is_err());
        assert_eq!(picture(outside.path()), before);
    }
}

#[test]
fn dot_dot_stays_inside() {
    let tree = Tree::new();
    let root: Root = tree.root();
    let attributes = Attributes {
        mode: 0o600,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    };
    root.write("/../../../../escaped", b"x", attributes)
        .unwrap();
    assert!(tree.exists("escaped"));
    assert_eq!(root.kind("/etc/../../../escaped").unwrap(), Kind::File);
    assert!(root.write("/etc/..", b"x", attributes).is_err());
    assert!(root.write("relative", b"x", attributes).is_err());
}

/// The kernel gives up on a `..` when something is renamed meanwhile, anywhere.
#[test]
fn renames_elsewhere_do_not_matter() {
    let (tree, elsewhere) = (Tree::debian("1.7.24~ds1-6"), common::temporary());
    let (from, to) = (elsewhere.path().join("a"), elsewhere.path().join("b"));
    fs::write(&from, "").unwrap();
    let root = tree.root();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::rename(&from, &to).unwrap();
                fs::rename(&to, &from).unwrap();
            }
        });
        let path = format!("/{}etc/passwd", "etc/../".repeat(20));
        let failed = (0..20_000).find_map(|_| root.kind(&path).err());
        done.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
}

#[test]
fn two_installers_do_not_meet() {
    let tree = Tree::debian("1.7.24~ds1-6");
    let other = tree.root();
    let lock = other.lock().unwrap();
    assert!(tree.install().is_err());
    drop(lock);
    tree.install().unwrap();
}

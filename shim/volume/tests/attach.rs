//! Volumes in use: by several containers, beneath directories, after a killed shim, after a reboot.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mycedrive_volume::attach::{Attached, Attachments, User, Want};
use mycedrive_volume::{Found, find, receive};
use nix::mount::umount;

struct Node {
    folder: tempfile::TempDir,
    volume: PathBuf,
    all: Attachments,
}

fn user(container: &str) -> User {
    User {
        sandbox: "pod".to_owned(),
        container: container.to_owned(),
    }
}

impl Node {
    /// None: mounting needs root.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return None;
        }
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let all = Attachments::new(
            &folder.path().join("records"),
            &folder.path().join("mounts"),
        );
        Some(Self {
            folder,
            volume,
            all,
        })
    }

    fn stack(&self, container: &str) -> PathBuf {
        match self.all.attach(&self.volume, &user(container), Want::Stack) {
            Ok(Attached::Stack(path)) => path,
            other => panic!("{other:?}"),
        }
    }

    fn plain(&self, want: Want) -> String {
        match self.all.attach(&self.volume, &user("one"), want) {
            Ok(Attached::Plain(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn is_plain(&self) -> bool {
        find(&self.volume).unwrap() == Found::Plain
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.all.sweep(&|_| false);
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in table
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(4))
        {
            if Path::new(point).starts_with(self.folder.path()) {
                let _ = umount(point);
            }
        }
    }
}

/// A process with a mount namespace of its own, a copy of this one, in which `script` was run.
struct Elsewhere(Child);

impl Elsewhere {
    fn new(propagation: &str, script: &str) -> Self {
        let script = format!("{script}\necho ready; exec sleep 600");
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", propagation])
            .args(["sh", "-ec", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let answer = child.stdout.as_mut().unwrap().read_exact(&mut ready);
        answer.expect("the script failed");
        Self(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn chattr(flag: &str, path: &Path) -> bool {
    let run = Command::new("chattr").arg(flag).arg(path).output();
    run.is_ok_and(|done| done.status.success())
}

/// Where nothing can be made in it. SELinux keeps a program from a folder with another error
/// number that means the same.
struct Closed(PathBuf);

impl Closed {
    fn make(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        if chattr("+i", folder) {
            return Some(Self(folder.to_owned()));
        }
        eprintln!("skipped: no immutable directories here");
        None
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

/// A container starts all the same; one whose volume is a stack already does not.
#[test]
fn without_a_place_for_stacks_a_volume_stays_plain() {
    let Some(node) = Node::new() else { return };
    let at = |name: &str| node.folder.path().join(name);
    let Some(_closed) = Closed::make(&at("closed")) else {
        return;
    };
    let none = Attachments::new(&at("records"), &at("closed/mounts"));
    fs::write(node.volume.join("kept"), "x").unwrap();
    match none.attach(&node.volume, &user("one"), Want::Stack) {
        Ok(Attached::Plain(reason)) => assert!(reason.contains("closed/mounts"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(find(&node.volume).unwrap(), Found::Plain);
    // What may be another answer for the pod's next container is an error.
    fs::write(at("file"), "").unwrap();
    let failing = Attachments::new(&at("records"), &at("file/mounts"));
    let failed = failing.attach(&node.volume, &user("one"), Want::Stack);
    assert!(failed.is_err(), "{failed:?}");
    node.stack("one");
    let again = none.attach(&node.volume, &user("two"), Want::Stack);
    assert!(again.is_err(), "{again:?}");
    assert!(node.all.detach(&node.volume, &user("one")).unwrap());
}

/// OverlayFS makes a directory in `work`. Some kernels mount without it, read-only.
#[test]
fn a_stack_that_cannot_be_written_is_not_mounted() {
    let Some(node) = Node::new() else { return };
    fs::write(node.volume.join("kept"), "x").unwrap();
    mycedrive_volume::init(&node.volume, &mut mycedrive_volume::undisturbed).unwrap();
    let Some(closed) = Closed::make(&node.volume.join(".mycedrive-stack/work")) else {
        return;
    };
    let target = node.folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let mounted = mycedrive_volume::mount(&node.volume, &target);
    eprintln!("{mounted:?}");
    assert!(mounted.is_err());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    drop(closed);
    mycedrive_volume::mount(&node.volume, &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("kept")).unwrap(), "x");
    mycedrive_volume::unmount(&node.volume, &target).unwrap();
}

#[test]
fn a_copy_of_the_mounts_does_not_hold_a_stack() {
    let Some(node) = Node::new() else { return };
    let above = node.folder.path().display();
    let bind = format!("mount --rbind {above} /mnt");
    // A service of systemd; a process that gets no news of mounts; a pod with a hostPath of `/`.
    for (propagation, script) in [("slave", ""), ("private", ""), ("private", bind.as_str())] {
        let stack = node.stack("one");
        fs::write(stack.join("file"), "x").unwrap();
        let beneath = node.all.directory(&node.volume, Path::new("a")).unwrap();
        assert!(beneath.exists());
        let other = Elsewhere::new(propagation, script);
        assert!(node.all.detach(&node.volume, &user("one")).unwrap());
        assert!(node.is_plain() && node.volume.join("file").exists());
        if propagation == "slave" {
            let table = format!("/proc/{}/mountinfo", other.0.id());
            let table = fs::read_to_string(table).unwrap();
            assert!(!table.contains(stack.to_str().unwrap()), "{table}");
        }
    }
}

#[test]
fn a_mount_of_a_container_holds_a_stack() {
    let Some(node) = Node::new() else { return };
    let stack = node.stack("one");
    let script = format!("mount --bind {0} /mnt; umount {0}", stack.display());
    let container = Elsewhere::new("private", &script);
    let error = node.all.detach(&node.volume, &user("one")).unwrap_err();
    assert!(error.to_string().contains("sleep"), "{error}");
    drop(container);
    node.all.sweep(&|_| false).unwrap();
    assert!(node.is_plain());
}

#[test]
fn containers_share_a_stack_and_the_last_one_folds_it() {
    let Some(node) = Node::new() else { return };
    fs::write(node.volume.join("before"), "1").unwrap();
    let first = node.stack("one");
    fs::write(first.join("by-one"), "2").unwrap();
    let second = node.stack("two");
    assert_eq!(first, second);
    assert!(!node.volume.join("before").exists());
    assert!(!node.all.detach(&node.volume, &user("one")).unwrap());
    fs::remove_file(second.join("before")).unwrap();
    assert!(node.all.detach(&node.volume, &user("two")).unwrap());
    assert!(node.is_plain() && node.all.records().is_empty());
    assert_eq!(fs::read_to_string(node.volume.join("by-one")).unwrap(), "2");
    assert!(!node.volume.join("before").exists());
    // Again, and what is plain may be detached.
    node.stack("three");
    assert!(node.all.detach(&node.volume, &user("three")).unwrap());
    assert!(node.all.detach(&node.volume, &user("three")).unwrap());
}

#[test]
fn a_directory_of_a_volume_is_mounted_by_itself() {
    let Some(node) = Node::new() else { return };
    let stack = node.stack("one");
    let inside = node.all.directory(&node.volume, Path::new("a/b")).unwrap();
    fs::write(inside.join("file"), "x").unwrap();
    assert!(stack.join("a/b/file").exists());
    assert_eq!(
        inside,
        node.all.directory(&node.volume, Path::new("a/b")).unwrap()
    );
    symlink("/etc", stack.join("out")).unwrap();
    node.all
        .directory(&node.volume, Path::new("out"))
        .unwrap_err();
    node.all
        .directory(&node.volume, Path::new("../x"))
        .unwrap_err();
    assert!(node.all.detach(&node.volume, &user("one")).unwrap());
    assert!(node.volume.join("a/b/file").exists());
}

#[test]
fn the_stack_of_a_killed_shim_is_folded_by_another() {
    let Some(node) = Node::new() else { return };
    let stack = node.stack("one");
    node.stack("two");
    fs::write(stack.join("file"), "x").unwrap();
    node.all.detach_pod("another").unwrap();
    assert!(!node.is_plain());
    node.all.detach_pod("pod").unwrap();
    assert!(node.is_plain() && node.volume.join("file").exists());
    assert!(node.all.records().is_empty());
}

#[test]
fn after_a_reboot_the_stack_goes_on_or_is_folded() {
    let Some(node) = Node::new() else { return };
    let stack = node.stack("one");
    fs::write(stack.join("file"), "x").unwrap();
    umount(&stack).unwrap();
    // The same pod again, in a new sandbox.
    let again = node.stack("two");
    assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "x");
    umount(&again).unwrap();
    node.all.sweep(&|_| false).unwrap();
    assert!(node.is_plain() && node.volume.join("file").exists());
}

#[test]
fn a_volume_that_kubelet_removed_leaves_nothing() {
    let Some(node) = Node::new() else { return };
    node.stack("one");
    fs::remove_dir_all(&node.volume).unwrap();
    node.all.sweep(&|_| false).unwrap();
    assert!(node.all.records().is_empty());
    assert!(!node.volume.exists());
}

#[test]
fn what_came_as_a_directory_stays_one() {
    let Some(node) = Node::new() else { return };
    node.plain(Want::Received);
    assert!(node.is_plain());
    let layers = receive::begin(&node.volume, 2).unwrap();
    fs::write(layers[0].join("file"), "base").unwrap();
    fs::write(layers[1].join("other"), "layer").unwrap();
    // A start that is no destination's finds the volume as it was.
    fs::write(node.volume.join("own"), "x").unwrap();
    let stack = node.stack("one");
    assert!(stack.join("own").exists() && !stack.join("file").exists());
    assert!(node.all.detach(&node.volume, &user("one")).unwrap());
    let layers = receive::begin(&node.volume, 1).unwrap();
    fs::write(layers[0].join("file"), "base").unwrap();
    receive::commit(&node.volume, &mut mycedrive_volume::undisturbed).unwrap();
    match node.all.attach(&node.volume, &user("one"), Want::Received) {
        Ok(Attached::Stack(path)) => assert!(path.join("file").exists()),
        other => panic!("{other:?}"),
    }
}

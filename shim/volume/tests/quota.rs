//! Project quotas, as kubelet gives them to the directories of emptyDirs: all of a stack is counted, in
//! every state of it, and nothing moves out of the project. Needs a kernel with quotas.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../transfer/tests/common/mod.rs"]
mod common;
mod place;

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{snapshot, tempdir};
use mycedrive_volume::attach::{Attached, Attachments, User, Want};
use mycedrive_volume::{Found, create_checkpoint, find, mount, receive, undisturbed, unmount};
use place::{Place, changes, content, ready, same, with_received};

const PROJECT: u32 = 42;
/// `QCMD(Q_GETQUOTA, PRJQUOTA)`, linux/quota.h.
const GET: u32 = (0x0080_0007 << 8) | 2;

/// A file system in a file, with a volume that is a project of its own.
struct Disk {
    folder: tempfile::TempDir,
    kind: &'static str,
}

impl Disk {
    /// None: this machine cannot mount one with project quotas.
    fn make(kind: &'static str) -> Option<Self> {
        if !ready() {
            return None;
        }
        let disk = Self {
            folder: tempdir(),
            kind,
        };
        let image = disk.folder.path().join("image");
        // XFS takes nothing smaller.
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        fs::create_dir(disk.at()).unwrap();
        let make: &[&str] = match kind {
            "ext4" => &["-q", "-O", "quota,project", "-E", "quotatype=prjquota"],
            _ => &["-q"],
        };
        let made = run(&format!("mkfs.{kind}"), make, &[&image])
            && run("mount", &["-o", "loop,prjquota"], &[&image, &disk.at()]);
        if !made {
            eprintln!("skipped: no {kind} with project quotas here");
            return None;
        }
        let volume = disk.at().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::create_dir(disk.at().join("merged")).unwrap();
        assert!(run("chattr", &["-p", &PROJECT.to_string()], &[&volume]));
        assert!(run("chattr", &["+P"], &[&volume]));
        Some(disk)
    }

    fn at(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn place(&self) -> Place {
        Place::at(&self.at())
    }

    /// What the project has: bytes and entries.
    fn project(&self) -> (u64, u64) {
        let at = File::open(self.at()).unwrap();
        // SAFETY: a struct of plain numbers.
        let mut found: libc::dqblk = unsafe { std::mem::zeroed() };
        // SAFETY: a descriptor that is open, and a struct of the type that this command fills.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_quotactl_fd,
                at.as_raw_fd(),
                GET,
                PROJECT,
                &raw mut found,
            )
        };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        (found.dqb_curspace, found.dqb_curinodes)
    }

    /// All of the volume is counted, and nothing else.
    fn counted(&self, when: &str) {
        assert!(run("sync", &["-f"], &[&self.at()]));
        let mut all = HashSet::new();
        let bytes = sum(&self.at().join("volume"), &mut all);
        let project = self.project();
        eprintln!(
            "{} {when}: {} bytes, {} entries",
            self.kind, project.0, project.1
        );
        assert_eq!(project, (bytes, all.len() as u64), "{} {when}", self.kind);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at()).output();
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).args(paths);
    command.output().is_ok_and(|done| done.status.success())
}

/// Blocks of what is there, each inode once.
fn sum(path: &Path, seen: &mut HashSet<u64>) -> u64 {
    let found = fs::symlink_metadata(path).unwrap();
    if !seen.insert(found.ino()) {
        return 0;
    }
    let mut bytes = found.blocks() * 512;
    if found.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            bytes += sum(&entry.unwrap().path(), seen);
        }
    }
    bytes
}

#[test]
fn all_of_a_stack_is_in_its_project() {
    for kind in ["ext4", "xfs"] {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let place = disk.place();
        content(&place.volume);
        disk.counted("plain");
        place.init();
        disk.counted("stack");
        place.mounted(|root| {
            disk.counted("mounted");
            let before = disk.project().0;
            changes(root);
            fs::write(root.join("large"), vec![b'x'; 4 << 20]).unwrap();
            disk.counted("changed");
            assert!(disk.project().0 >= before + (4 << 20));
        });
        create_checkpoint(&place.volume, &mut undisturbed).unwrap();
        disk.counted("sealed");
        let seen = place.mounted(|root| {
            fs::rename(root.join("a"), root.join("moved/a")).unwrap();
            fs::remove_file(root.join("large")).unwrap();
            fs::write(root.join("plain-2"), "again").unwrap();
            disk.counted("changed again");
        });
        place.end();
        disk.counted("plain again");
        same(&seen, &snapshot(&place.volume), false);
    }
}

#[test]
fn what_is_received_is_in_the_project() {
    for kind in ["ext4", "xfs"] {
        let Some(disk) = Disk::make(kind) else {
            continue;
        };
        let place = disk.place();
        let seen = with_received(&place);
        disk.counted("received");
        receive::commit(&place.volume, &mut undisturbed).unwrap();
        disk.counted("committed");
        mount(&place.volume, &place.target).unwrap();
        disk.counted("mounted");
        unmount(&place.volume, &place.target).unwrap();
        place.end();
        disk.counted("plain");
        same(&seen, &snapshot(&place.volume), false);
    }
}

/// Content that was there before the directory became a project: it cannot be renamed within it.
#[test]
fn content_of_another_project_stays_plain() {
    for kind in ["ext4", "xfs"] {
        for stray in ["old", "old/deep/er/file", "link"] {
            let Some(disk) = Disk::make(kind) else {
                continue;
            };
            let place = disk.place();
            content(&place.volume);
            let path = place.volume.join(stray);
            if stray == "link" {
                // Nobody can give one a project, or ask it.
                assert!(run("chattr", &["-P"], &[&place.volume]));
                std::os::unix::fs::symlink("kept", &path).unwrap();
                assert!(run("chattr", &["+P"], &[&place.volume]));
            } else {
                assert!(run("chattr", &["-p", "7"], &[&path]));
            }
            let before = snapshot(&place.volume);
            let folder = tempdir();
            let all = Attachments::new(
                &folder.path().join("records"),
                &folder.path().join("mounts"),
            );
            let user = User {
                sandbox: "pod".to_owned(),
                container: "one".to_owned(),
            };
            match all.attach(&place.volume, &user, Want::Stack).unwrap() {
                Attached::Plain(reason) if stray == "link" => eprintln!("{kind}: {reason}"),
                Attached::Plain(reason) => assert!(reason.contains("project"), "{reason}"),
                Attached::Stack(_) => panic!("{kind}: with {stray} it became a stack"),
            }
            assert_eq!(find(&place.volume).unwrap(), Found::Plain);
            same(&before, &snapshot(&place.volume), false);
        }
    }
}

//! A disk with project quotas, in a file, and a volume on it that is a project of its own.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::tempdir;
use mycedrive_volume::Result;
use mycedrive_volume::attach::{Attached, Attachments, User, Want};

use crate::place::{Place, ready};

pub const PROJECT: u32 = 42;
/// `QCMD(Q_GETQUOTA, PRJQUOTA)` and the same with `Q_SETQUOTA`, linux/quota.h.
const GET: u32 = (0x0080_0007 << 8) | 2;
const SET: u32 = (0x0080_0008 << 8) | 2;
/// `QIF_BLIMITS`: only the limits of bytes are set.
const LIMITS: u32 = 1;

/// A file system in a file, with a volume that is a project of its own.
pub struct Disk {
    folder: tempfile::TempDir,
    pub kind: &'static str,
}

impl Disk {
    /// None: this machine cannot mount one with project quotas.
    pub fn make(kind: &'static str) -> Option<Self> {
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

    pub fn at(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    pub fn place(&self) -> Place {
        Place::at(&self.at())
    }

    /// What the project has: bytes and entries.
    pub fn project(&self) -> (u64, u64) {
        let found = self.quota(GET, None);
        (found.dqb_curspace, found.dqb_curinodes)
    }

    /// Gives the project a hard limit: `more` bytes than it has.
    pub fn limit(&self, more: u64) {
        assert!(run("sync", &["-f"], &[&self.at()]));
        let mut wanted = self.quota(GET, None);
        wanted.dqb_bhardlimit = (wanted.dqb_curspace + more) / 1024;
        wanted.dqb_valid = LIMITS;
        self.quota(SET, Some(wanted));
    }

    fn quota(&self, command: u32, with: Option<libc::dqblk>) -> libc::dqblk {
        let at = File::open(self.at()).unwrap();
        // SAFETY: a struct of plain numbers.
        let mut found = with.unwrap_or_else(|| unsafe { std::mem::zeroed() });
        // SAFETY: a descriptor that is open, and a struct of the type that these commands take.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_quotactl_fd,
                at.as_raw_fd(),
                command,
                PROJECT,
                &raw mut found,
            )
        };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        found
    }

    /// All of the volume is counted, and nothing else.
    pub fn counted(&self, when: &str) {
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

/// A container that uses a volume as on a node.
pub struct Container {
    _folder: tempfile::TempDir,
    all: Attachments,
    user: User,
}

impl Container {
    pub fn new() -> Self {
        let folder = tempdir();
        let at = |name: &str| folder.path().join(name);
        Self {
            all: Attachments::new(&at("records"), &at("mounts")),
            _folder: folder,
            user: User {
                sandbox: "pod".to_owned(),
                container: "one".to_owned(),
            },
        }
    }

    pub fn attach(&self, volume: &Path) -> Result<Attached> {
        self.all.attach(volume, &self.user, Want::Stack)
    }

    pub fn detach(&self, volume: &Path) -> bool {
        self.all.detach(volume, &self.user).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at()).output();
    }
}

pub fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> bool {
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

//! Where archives lie from which pods are restored: `archives/NAMESPACE/NAME` below the state
//! directory, root's alone.
//!
//! The annotation of a pod names one by its file name, in the folder of the pod's own namespace:
//! who may create pods in a namespace reaches what an operator has put there, and nothing else of
//! the node.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use super::header::plain;
use super::{Archive, ArchiveError};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files;

/// The folder of tasks that `ctr` made, which have no namespace of Kubernetes.
pub const TASKS: &str = "_tasks";

/// The archives of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Those of a Kubernetes namespace; the empty one is that of `ctr`'s tasks.
    pub fn of(config: &Config, namespace: &str) -> Result<Self> {
        let namespace = if namespace.is_empty() {
            TASKS
        } else {
            namespace
        };
        Ok(Self {
            folder: config.state_dir.join("archives").join(name(namespace)?),
        })
    }

    /// Where an archive lies, or will.
    pub fn path(&self, archive: &str) -> Result<PathBuf> {
        Ok(self.folder.join(name(archive)?))
    }

    /// Opens an archive. `None`: it is not there (yet).
    pub fn open(&self, archive: &str) -> Result<Option<Archive<File>>> {
        let path = self.path(archive)?;
        let Some(file) = beneath(&self.folder, archive).map_err(Error::io("cannot open", &path))?
        else {
            return Ok(None);
        };
        let opened = File::from(file);
        let regular = opened.metadata().is_ok_and(|metadata| metadata.is_file());
        let archive = if regular {
            Archive::new(opened)
        } else {
            Err(ArchiveError::NotAFile)
        };
        archive
            .map(Some)
            .map_err(|problem| Error::Archive { path, problem })
    }

    /// Takes an archive in under a name, at one moment; one of that name is replaced. What it is
    /// read from is decrypted: a pod that starts has nobody to ask for a key.
    pub fn take(&self, archive: &mut impl Read, name: &str) -> Result<PathBuf> {
        let target = self.path(name)?;
        files::make_private_dir(&self.folder)?;
        files::copy_private(archive, &target)?;
        Ok(target)
    }
}

fn name(name: &str) -> Result<&str> {
    if plain(name) || name == TASKS {
        return Ok(name);
    }
    Err(Error::Refused(format!(
        "{name:?} is not the name of an archive or namespace: letters, digits, '-', '_' and '.'"
    )))
}

fn beneath(folder: &Path, name: &str) -> io::Result<Option<OwnedFd>> {
    let none_if_absent = |errno: Errno| match errno {
        Errno::ENOENT => Ok(None),
        other => Err(io::Error::from(other)),
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let folder = match nix::fcntl::open(folder, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(errno) => return none_if_absent(errno),
    };
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(&folder, name, how) {
        Ok(file) => Ok(Some(file)),
        Err(errno) => none_if_absent(errno),
    }
}

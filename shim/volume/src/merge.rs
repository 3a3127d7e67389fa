//! Merges one layer into the base, by renames. What was merged is gone from the layer, so after
//! a crash the same call goes on.

use mycedrive_transfer::access::Attributes;
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use crate::Steps;
use crate::entries::{Entry, Tree, is_dir, is_whiteout};
use crate::error::{Error, Result};
use crate::redirect::Redirects;
use mycedrive_transfer::access::split;

enum Step {
    /// A directory that both have.
    Enter(Vec<u8>),
    /// Its entries were merged.
    Leave(Vec<u8>, Box<Attributes>),
}

/// Merges `layer` into `base`. The lower parts of `redirects` are in `staging`. `own` is called
/// before the first entry that has a container's own attributes gets into the base.
pub(crate) fn merge(
    layer: &Tree,
    base: &Tree,
    staging: &Tree,
    redirects: &Redirects,
    own: &dyn Fn() -> Result<()>,
    steps: Steps<'_>,
) -> Result<()> {
    let mut merging = Merging {
        layer,
        base,
        staging,
        redirects,
        own,
        steps,
        todo: vec![Step::Enter(Vec::new())],
    };
    merging.strip(b"")?;
    while let Some(step) = merging.todo.pop() {
        match step {
            Step::Enter(path) => merging.enter(&path)?,
            Step::Leave(path, attributes) => merging.leave(&path, &attributes)?,
        }
    }
    Ok(())
}

struct Merging<'a> {
    layer: &'a Tree,
    base: &'a Tree,
    staging: &'a Tree,
    redirects: &'a Redirects,
    own: &'a dyn Fn() -> Result<()>,
    steps: Steps<'a>,
    todo: Vec<Step>,
}

impl Merging<'_> {
    fn enter(&mut self, path: &[u8]) -> Result<()> {
        // Now: moving entries out alters the directory's times.
        let attributes = attributes(self.layer, path)?;
        self.todo
            .push(Step::Leave(path.to_vec(), Box::new(attributes)));
        for entry in self.layer.list(path)? {
            if is_dir(&entry.stat) {
                self.directory(&entry)?;
            } else if is_whiteout(&entry.stat) {
                self.base.remove(&entry.path)?;
                (self.steps)();
                self.layer.unlink(&entry.path)?;
                (self.steps)();
            } else {
                self.strip(&entry.path)?;
                if self
                    .base
                    .stat(&entry.path)?
                    .is_some_and(|stat| is_dir(&stat))
                {
                    self.base.remove(&entry.path)?;
                    (self.steps)();
                }
                self.layer.rename(&entry.path, self.base, &entry.path)?;
                (self.steps)();
            }
        }
        Ok(())
    }

    fn leave(&mut self, path: &[u8], attributes: &Attributes) -> Result<()> {
        apply(self.base, path, attributes)?;
        (self.steps)();
        if !path.is_empty() {
            self.layer.rmdir(path)?;
            (self.steps)();
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        let slot = self.redirects.slot(path);
        if let Some(slot) = slot
            && self.staging.stat(slot)?.is_some()
        {
            self.base.remove(path)?;
            (self.steps)();
            self.staging.rename(slot, self.base, path)?;
            (self.steps)();
        } else if slot.is_none() && self.layer.overlay(path, "opaque")?.is_some() {
            self.base.remove(path)?;
            (self.steps)();
        }
        // Only now: it says that what the base had is not wanted.
        self.strip(path)?;
        (self.steps)();
        let there = self.base.stat(path)?;
        if there.as_ref().is_some_and(is_dir) {
            self.todo.push(Step::Enter(path.clone()));
            return Ok(());
        }
        if there.is_some() {
            self.base.unlink(path)?;
            (self.steps)();
        }
        if self.redirects.beneath(path) {
            self.make_dir(path)?;
            self.todo.push(Step::Enter(path.clone()));
        } else {
            self.clean(path)?;
            (self.steps)();
            self.layer.rename(path, self.base, path)?;
        }
        (self.steps)();
        Ok(())
    }

    fn strip(&self, path: &[u8]) -> Result<()> {
        if self.layer.strip(path)? {
            (self.own)()?;
        }
        Ok(())
    }

    /// Makes a directory that only the layer has an ordinary one: no whiteouts, no attributes of
    /// OverlayFS. Times stay as they are.
    fn clean(&self, path: &[u8]) -> Result<()> {
        let mut todo = vec![path.to_vec()];
        while let Some(directory) = todo.pop() {
            let before = attributes(self.layer, &directory)?;
            let mut altered = false;
            for entry in self.layer.list(&directory)? {
                if is_whiteout(&entry.stat) {
                    self.layer.unlink(&entry.path)?;
                    altered = true;
                    continue;
                }
                self.strip(&entry.path)?;
                if is_dir(&entry.stat) {
                    todo.push(entry.path);
                }
            }
            if altered {
                apply(self.layer, &directory, &before)?;
            }
        }
        Ok(())
    }

    fn make_dir(&self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let fail = |errno: Errno| self.base.fail("create", path)(errno);
        let directory = self.base.root.directory(parent).map_err(fail)?;
        mkdirat(&directory, name, Mode::S_IRWXU).map_err(fail)
    }
}

fn attributes(tree: &Tree, path: &[u8]) -> Result<Attributes> {
    let fd = tree.handle(path)?;
    Attributes::of(fd.as_fd()).map_err(fail(tree, "read the attributes of", path))
}

fn apply(tree: &Tree, path: &[u8], attributes: &Attributes) -> Result<()> {
    let fd = tree.handle(path)?;
    attributes
        .apply(fd.as_fd())
        .map_err(fail(tree, "set the attributes of", path))
}

fn fail(tree: &Tree, action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    let path = tree.path.join(OsStr::from_bytes(path));
    move |error| Error::io(action, &path)(error)
}

//! Several changes of a tree: all of them, or none.
//!
//! 1. Look at every path that will change and keep its content.
//! 2. Write the journal (what was where) and sync it.
//! 3. Make the changes, each one atomic by itself.
//! 4. Remove the journal: this is the moment at which the changes count.
//!
//! A failure in between puts everything back. If the machine dies, the next
//! run of the installer finds the journal and puts everything back first.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::{MANIFEST, STATE_DIR, Was, backup_path, digest, read_backup};
use crate::root::{Attributes, CONFIG_LIMIT, Kind, Root, wrong_kind};

const DIR: &str = "/var/lib/mycedrive/installer/transaction";
const JOURNAL: &str = "/var/lib/mycedrive/installer/transaction/journal.json";

/// Owner of everything that is new: root, or whoever runs a test.
pub fn new_file(mode: u32) -> Attributes {
    Attributes {
        mode,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    }
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A regular file.
    File(Vec<u8>, Attributes),
    /// A symbolic link with this target.
    Link(String),
    /// A directory with these permission bits; left alone if it exists.
    Dir(u32),
    /// Nothing any more.
    Remove,
    /// Nothing any more, if it is an empty directory.
    RemoveDir,
}

/// One path and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path inside the root.
    pub path: String,
    /// What becomes of it.
    pub action: Action,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    format: u32,
    made_dirs: Vec<String>,
    before: Vec<Before>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    path: String,
    was: Was,
}

/// Asked before every step. Tests use it to fail or to die there.
pub trait Steps {
    /// Called before step `number` (from 0); an error makes the step fail.
    fn before(&mut self, number: usize, step: &str) -> Result<()>;

    /// True if the last error stands for the death of the machine: nothing may
    /// be put back.
    fn dead(&self) -> bool {
        false
    }
}

/// No faults.
#[derive(Debug, Default)]
pub struct NoFaults;

impl Steps for NoFaults {
    fn before(&mut self, _number: usize, _step: &str) -> Result<()> {
        Ok(())
    }
}

struct Run<'a> {
    root: &'a Root,
    steps: &'a mut dyn Steps,
    number: usize,
    step: String,
    journal: Journal,
}

/// Makes all changes, or none.
pub fn run(root: &Root, steps: &mut dyn Steps, changes: &[Change]) -> Result<()> {
    let mut run = Run {
        root,
        steps,
        number: 0,
        step: String::new(),
        journal: Journal {
            format: 1,
            made_dirs: Vec::new(),
            before: Vec::new(),
        },
    };
    match run.go(changes) {
        Ok(()) => {
            clean(root, &[]);
            Ok(())
        }
        Err(source) if run.steps.dead() => Err(source),
        Err(source) => {
            let (step, source) = (run.step, Box::new(source));
            match undo(root, &run.journal) {
                Ok(()) => Err(Error::RolledBack { step, source }),
                Err(undo) => Err(Error::RollbackFailed {
                    step,
                    source,
                    undo: Box::new(undo),
                }),
            }
        }
    }
}

/// Puts back what an installer that was killed had changed. True if there was
/// something to put back.
pub fn recover(root: &Root) -> Result<bool> {
    let Some(bytes) = root.read(JOURNAL, CONFIG_LIMIT)? else {
        // Either nothing was changed yet, or everything was done.
        let mut ours = Vec::new();
        if root.is_dir(STATE_DIR) && root.kind(MANIFEST)? == Kind::Absent {
            ours = vec!["/var/lib/mycedrive".to_owned(), STATE_DIR.to_owned()];
        }
        clean(root, &ours);
        return Ok(false);
    };
    let damaged = |message: String| Error::Record {
        path: JOURNAL.to_owned(),
        message,
    };
    let journal: Journal =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if journal.format != 1 {
        return Err(damaged(format!("format {}", journal.format)));
    }
    undo(root, &journal)?;
    Ok(true)
}

impl Run<'_> {
    fn step(&mut self, step: String) -> Result<()> {
        self.step = step;
        self.steps.before(self.number, &self.step)?;
        self.number += 1;
        Ok(())
    }

    fn go(&mut self, changes: &[Change]) -> Result<()> {
        let mut own = self.root.missing_parents(JOURNAL);
        own.retain(|dir| !dir.is_empty());
        for dir in own {
            self.step(format!("create {dir}"))?;
            let mode = if dir.starts_with("/var/lib/mycedrive") {
                0o700
            } else {
                0o755
            };
            if self.root.make_dir(&dir, mode)? {
                self.journal.made_dirs.push(dir);
            }
        }
        for change in changes {
            self.keep(&change.path)?;
        }
        self.step("write the journal".into())?;
        let bytes = serde_json::to_vec(&self.journal).map_err(|error| Error::Record {
            path: JOURNAL.to_owned(),
            message: error.to_string(),
        })?;
        self.root.write(JOURNAL, &bytes, new_file(0o600))?;
        for change in changes {
            self.apply(change)?;
        }
        self.step("remove the journal".into())?;
        self.root.remove(JOURNAL)
    }

    fn keep(&mut self, path: &str) -> Result<()> {
        self.step(format!("keep {path}"))?;
        let (was, bytes) = Was::look(self.root, path)?;
        if let Was::File { digest, .. } = &was {
            let kept = backup_path(DIR, digest)?;
            self.root.write(&kept, &bytes, new_file(0o600))?;
        }
        self.journal.before.push(Before {
            path: path.to_owned(),
            was,
        });
        Ok(())
    }

    fn apply(&mut self, change: &Change) -> Result<()> {
        let Change { path, action } = change;
        match action {
            Action::File(bytes, attributes) => {
                self.step(format!("write {path}"))?;
                self.replaceable(path)?;
                self.root.write(path, bytes, *attributes)
            }
            Action::Link(target) => {
                self.step(format!("link {path}"))?;
                self.replaceable(path)?;
                self.root.symlink(path, target)
            }
            Action::Dir(mode) => {
                self.step(format!("create {path}"))?;
                self.root.make_dir(path, *mode).map(drop)
            }
            Action::Remove => {
                self.step(format!("remove {path}"))?;
                self.root.remove(path)
            }
            Action::RemoveDir => {
                self.step(format!("remove {path}"))?;
                self.root.remove_dir(path).map(drop)
            }
        }
    }

    fn replaceable(&self, path: &str) -> Result<()> {
        match self.root.kind(path)? {
            Kind::Absent | Kind::File | Kind::Link(_) => Ok(()),
            other => Err(wrong_kind(path, &other, "a regular file or nothing")),
        }
    }
}

/// Puts everything back, last change first.
fn undo(root: &Root, journal: &Journal) -> Result<()> {
    for before in journal.before.iter().rev() {
        root.remove_temporary(&before.path)?;
        put_back(root, &before.path, &before.was)?;
    }
    root.remove(JOURNAL)?;
    clean(root, &journal.made_dirs);
    Ok(())
}

fn put_back(root: &Root, path: &str, was: &Was) -> Result<()> {
    let now = root.kind(path)?;
    match was {
        Was::Absent if now == Kind::Dir => root.remove_dir(path).map(drop),
        Was::Absent => root.remove(path),
        Was::Dir { mode } if now == Kind::Absent => root.make_dir(path, *mode).map(drop),
        Was::Dir { .. } => Ok(()),
        Was::Link { target } if now == Kind::Link(target.clone()) => Ok(()),
        Was::Link { target } => root.symlink(path, target),
        Was::File {
            digest: wanted,
            mode,
            uid,
            gid,
        } => {
            let attributes = Attributes {
                mode: *mode,
                uid: *uid,
                gid: *gid,
            };
            if now == Kind::File
                && root.attributes(path)? == Some(attributes)
                && let Some(bytes) = root.read(path, crate::root::PROGRAM_LIMIT)?
                && digest(&bytes) == *wanted
            {
                return Ok(());
            }
            let bytes = read_backup(root, DIR, wanted)?;
            root.write(path, &bytes, attributes)
        }
    }
}

/// Removes kept contents and directories that nothing needs any more. Failing
/// here harms nothing: the next run cleans up.
fn clean(root: &Root, made_dirs: &[String]) {
    for name in root.list(DIR).unwrap_or_default() {
        let _ = root.remove(&format!("{DIR}/{name}"));
    }
    let _ = root.remove_dir(DIR);
    for dir in made_dirs.iter().rev() {
        let _ = root.remove_dir(dir);
    }
}

//! Sends a tree in rounds; each one carries what changed since the one before.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::index::Index;
use super::marks::Marks;
use super::plan::plan;
use super::scan::{Found, scan};
use super::sending::Sending;
use super::{LISTED, TreeId, have, meta};
use crate::beneath::Root;
use crate::error::{Error, Result};
use crate::wire::{Frame, FrameWriter};

/// Which kind of round to send.
#[derive(Clone, Copy, Debug)]
pub enum Round<'a> {
    /// The tree is in use and may change under the sender's hands; what was missed or torn comes
    /// with a later round.
    Live,
    /// Nothing runs that could change the tree; after this round the receiver has exactly it.
    Final(&'a FinalRound),
}

/// What the final round must look at again because no timestamp tells.
#[derive(Clone, Debug, Default)]
pub struct FinalRound {
    /// Files that a process has mapped shared and writable, relative to the tree's root.
    pub mapped_paths: Vec<PathBuf>,
    /// The same by inode number, as `/proc/PID/maps` shows it.
    pub mapped_inodes: Vec<u64>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundSummary {
    /// Number of the round, counted from 1.
    pub round: u32,
    /// Whether the whole tree was sent.
    pub full: bool,
    /// Entries in the tree, the root counted.
    pub entries: u64,
    /// Entries whose content or attributes were looked at and sent.
    pub changed: u64,
    /// Names removed.
    pub removed: u64,
    /// Inodes that got other names without their content being sent.
    pub moved: u64,
    /// Bytes of file content sent, before compression.
    pub content_bytes: u64,
}

/// Sends one tree. Keeps the index of what the receiver has between rounds: about 200 bytes per
/// entry, 60 bytes per 64 KiB of content, and 256 more where the marks of its pieces are kept.
#[derive(Debug)]
pub struct TreeSender {
    root: Root,
    /// No timestamps for memory-mapped writes on tmpfs: the final round compares every file.
    tmpfs: bool,
    session: u64,
    round: u32,
    marks: Marks,
    index: Option<Index>,
    /// The index is what the receiver listed.
    listed: bool,
}

impl TreeSender {
    /// Opens the tree at `root`, a path that this node chose.
    pub fn new(root: &Path) -> Result<Self> {
        let opened = Root::open(root)?;
        let kind = fstatfs(opened.fd())
            .map_err(|e| Error::io("statfs", root.as_os_str().as_bytes(), e))?
            .filesystem_type();
        Ok(Self {
            root: opened,
            tmpfs: kind == TMPFS_MAGIC,
            session: session_number(root),
            round: 0,
            marks: Marks::new()?,
            index: None,
            listed: false,
        })
    }

    /// Forgets what the receiver has: the next round is a full one. Needed when the receiver
    /// reported an error, was restarted, or the stream did not end well.
    pub fn reset(&mut self) {
        self.index = None;
        self.listed = false;
    }

    /// The next round builds on what the receiver listed with [`have`](crate::have). After an
    /// error it is a full one.
    pub fn resume(&mut self, list: &[u8]) -> Result<()> {
        self.index = None;
        self.index = Some(have::index(list, &scan(&self.root, false)?)?);
        self.listed = true;
        Ok(())
    }

    /// Sends a round. After an error the next round is a full one.
    pub fn send_round<W: Write>(
        &mut self,
        out: &mut FrameWriter<W>,
        id: &TreeId,
        kind: Round<'_>,
    ) -> Result<RoundSummary> {
        let old = self.index.take();
        let listed = std::mem::take(&mut self.listed);
        let base = match &old {
            None => 0,
            Some(_) if listed => LISTED,
            Some(_) => self.round,
        };
        self.round += 1;
        let old = old.unwrap_or_default();
        let new = scan(&self.root, false)?;
        let steps = plan(&old, &new, self.forced(kind));
        let summary = RoundSummary {
            round: self.round,
            full: base == 0,
            entries: new.len() as u64,
            removed: steps.removes.len() as u64,
            moved: steps.parks.len() as u64,
            ..RoundSummary::default()
        };
        let begin = Frame::TreeBegin {
            id: id.as_str().as_bytes(),
            session: self.session,
            base,
            round: self.round,
        };
        out.put(&begin)?;
        let live = matches!(kind, Round::Live);
        let mut sending = Sending {
            root: &self.root,
            out,
            live,
            marks: &self.marks,
            old,
            index: Index::default(),
            summary,
            buffer: Vec::new(),
            blocks: 0,
            touched: HashSet::new(),
        };
        sending.names(&steps)?;
        sending.groups(&steps.groups)?;
        sending.directories(&steps, &new)?;
        let (index, summary) = (sending.index, sending.summary);
        let digest = out.digest();
        out.put(&Frame::TreeEnd { digest })?;
        self.index = Some(index);
        tracing::debug!(tree = %id, round = self.round, ?summary, "tree round sent");
        Ok(summary)
    }

    /// Files to compare although their ctime did not change.
    fn forced(&self, kind: Round<'_>) -> impl Fn(&[u8], &Found) -> bool + use<> {
        let (mut paths, mut inodes) = (HashSet::new(), HashSet::new());
        let mut all = false;
        if let Round::Final(hints) = kind {
            all = self.tmpfs;
            paths.extend(
                hints
                    .mapped_paths
                    .iter()
                    .map(|p| p.as_os_str().as_bytes().to_vec()),
            );
            inodes.extend(hints.mapped_inodes.iter().copied());
        }
        move |path, found| {
            meta::is_file(found.stat.st_mode)
                && (all || inodes.contains(&found.stat.st_ino) || paths.contains(path))
        }
    }
}

/// A number that two senders do not share: the receiver only needs to tell them apart.
fn session_number(root: &Path) -> u64 {
    let mut hasher = blake3::Hasher::new();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    hasher.update(&now.as_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(root.as_os_str().as_bytes());
    let here: u8 = 0;
    hasher.update(&(std::ptr::from_ref(&here) as usize).to_le_bytes());
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    u64::from_le_bytes(number)
}

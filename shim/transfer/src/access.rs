//! Trees on this node, opened and copied as rounds open and copy them: for code that works on
//! the same trees (volume stacks, received layers).

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;

use nix::sys::stat::fstat;

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::tree::{FinalRound, Round, TreeId, TreeReceiver, TreeSender, meta, wipe};
use crate::wire::{self, FrameReader, FrameWriter, Options, Section};

pub use crate::beneath::{Root, split};

/// Owner, mode, extended attributes and times of an entry; what names one overlay instance only
/// (`trusted.overlay.origin` and the like) is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    kind: u32,
    values: wire::Attributes,
}

impl Attributes {
    /// Reads them; the descriptor may be an O_PATH one.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = fstat(fd)?;
        Ok(Self {
            kind: meta::kind(stat.st_mode),
            values: meta::read(fd, &stat)?,
        })
    }

    /// Makes the entry behind `fd`, of the same type, have them.
    pub fn apply(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        meta::apply(fd, self.kind, &self.values)
    }

    /// Without the extended attributes whose names `unwanted` picks.
    #[must_use]
    pub fn without(mut self, unwanted: impl Fn(&[u8]) -> bool) -> Self {
        self.values.xattrs.retain(|(name, _)| !unwanted(name));
        self
    }
}

/// Removes everything in the directory `path`; the directory stays.
pub fn empty(path: &Path) -> Result<()> {
    wipe(&Root::open(path)?)
}

/// Makes the directory `to` what `from` is, with the code that copies between nodes. Nobody may
/// change `from` meanwhile.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let (reader, writer) = io::pipe().map_err(|e| Error::io("make", b"a pipe", e))?;
    let budget = Budget::default();
    thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let mut out = FrameWriter::new(writer, &Options::default())?;
            let id = TreeId::new("copy")?;
            let kind = FinalRound::default();
            TreeSender::new(from)?.send_round(&mut out, &id, Round::Final(&kind))?;
            out.finish().map(drop)
        });
        let receiving = (|| {
            let mut frames = FrameReader::new(reader, &budget)?;
            let mut receiver = TreeReceiver::new(to, &budget)?;
            while let Some(section) = frames.next_section()? {
                if let Section::Tree(begin) = section {
                    receiver.receive_round(&mut frames, &begin)?;
                }
            }
            Ok(())
        })();
        let sent = sending.join().unwrap_or_else(|_| {
            let error = io::Error::other("the sending thread ended");
            Err(Error::Stream(error))
        });
        // A reader that failed is why the writer could not go on.
        receiving.and(sent)
    })
}

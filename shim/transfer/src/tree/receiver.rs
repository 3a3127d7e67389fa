//! Applies rounds to a directory.

use std::io::Read;
use std::path::Path;

use super::applying::Applying;
use super::wipe::wipe;
use super::written::Written;
use super::{LISTED, TreeBegin};
use crate::beneath::Root;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::wire::{Frame, FrameReader};

/// What a round brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedRound {
    /// Number of the round, counted from 1.
    pub round: u32,
    /// Whether the whole tree was replaced.
    pub full: bool,
    /// Bytes of file content.
    pub content_bytes: u64,
    /// Frames applied.
    pub steps: u64,
}

/// Receives one tree into a directory. A full round first empties the directory; a delta round is
/// only taken right after the round it builds on.
#[derive(Debug)]
pub struct TreeReceiver {
    root: Root,
    budget: Budget,
    /// Session and number of the last round that arrived whole.
    have: Option<(u64, u32)>,
    /// What is in the directory was listed for the sender, and nothing has changed since.
    listed: bool,
    /// Since it was last taken.
    written: Written,
}

impl TreeReceiver {
    /// Opens the directory `root`, which must exist and be used by nobody else. `budget` bounds
    /// each round.
    pub fn new(root: &Path, budget: &Budget) -> Result<Self> {
        let root = Root::open(root)?;
        Ok(Self {
            written: Written::new(&root)?,
            root,
            budget: budget.clone(),
            have: None,
            listed: false,
        })
    }

    /// The same for a directory whose content was listed for the sender with
    /// [`have`](crate::have): the first round may build on that.
    pub fn listed(root: &Path, budget: &Budget) -> Result<Self> {
        Ok(Self {
            listed: true,
            ..Self::new(root, budget)?
        })
    }

    /// Receives the round that `begin` announced. It is verified when this returns, but the
    /// stream as a whole only when [`FrameReader::next_section`] returned `None`. After an error
    /// the directory holds a mixture, and only a full round is taken.
    pub fn receive_round<R: Read>(
        &mut self,
        reader: &mut FrameReader<R>,
        begin: &TreeBegin,
    ) -> Result<ReceivedRound> {
        let have = self.have.take();
        let listed = std::mem::take(&mut self.listed);
        if begin.is_full() {
            wipe(&self.root)?;
        } else if begin.base == LISTED && listed {
            tracing::debug!(tree = %begin.id, "goes on from what is here");
        } else if have != Some((begin.session, begin.base)) {
            return Err(Error::OutOfStep {
                tree: begin.id.to_string(),
                round: begin.round,
                base: begin.base,
                have: have.map_or(0, |(_, round)| round),
            });
        }
        let mut round = Applying::new(&self.root, &self.budget, &mut self.written);
        let mut steps = 0;
        loop {
            let frame = reader.next()?;
            if let Frame::TreeEnd { .. } = frame {
                break;
            }
            round.apply(&frame)?;
            steps += 1;
        }
        let content_bytes = round.finish()?;
        self.have = Some((begin.session, begin.round));
        Ok(ReceivedRound {
            round: begin.round,
            full: begin.is_full(),
            content_bytes,
            steps,
        })
    }

    /// What rounds wrote since this was last asked for, to be synced.
    pub fn take_written(&mut self) -> Result<Written> {
        let none = Written::new(&self.root)?;
        Ok(std::mem::replace(&mut self.written, none))
    }
}

//! A node loses power and comes up again.

use std::path::Path;

use super::{Node, create, start_time};
use crate::{Result, cgroup, network};

impl Node {
    /// Ends everything in the node at once. Its disk stays; its memory, /run, control groups and
    /// network are gone.
    pub(crate) fn power_off(&self) -> Result<()> {
        cgroup::destroy(&self.testbed, Some(&self.name))?;
        network::remove_link(&self.testbed, &self.name, self.index)
    }

    /// Starts a node again that was powered off; `state` is the testbed's directory of notes.
    pub(crate) fn power_on(&mut self, state: &Path) -> Result<()> {
        network::create_link(&self.testbed, &self.name, self.index)?;
        cgroup::create(&cgroup::hierarchies()?, &self.testbed, &self.name)?;
        self.pid = create::boot(&self.name, state, &self.own)?;
        self.started = start_time(self.pid).ok_or_else(|| create::died(&self.name, &self.own))?;
        Ok(())
    }

    /// Number of the node, which gives its addresses.
    pub(crate) fn index(&self) -> u8 {
        self.index
    }
}

use crate::{BATCH, SocketId};

/// Up to [`BATCH`] socket numbers.
#[derive(Clone, Copy)]
pub struct Ids {
    ids: [SocketId; BATCH],
    length: usize,
}

impl Ids {
    /// None.
    pub const fn new() -> Ids {
        Ids {
            ids: [0; BATCH],
            length: 0,
        }
    }

    /// Add one.
    ///
    /// # Errors
    ///
    /// The number itself, if [`BATCH`] are in.
    pub fn push(&mut self, id: SocketId) -> Result<(), SocketId> {
        let free = self.ids.get_mut(self.length).ok_or(id)?;
        *free = id;
        self.length += 1;
        Ok(())
    }

    /// In the order in which they were added.
    pub fn as_slice(&self) -> &[SocketId] {
        self.ids.get(..self.length).unwrap_or_default()
    }
}

impl Default for Ids {
    fn default() -> Ids {
        Ids::new()
    }
}

impl PartialEq for Ids {
    fn eq(&self, other: &Ids) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Ids {}

impl core::fmt::Debug for Ids {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

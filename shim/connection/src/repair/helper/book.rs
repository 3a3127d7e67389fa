//! What the helper knows: sockets, and how far each process is.

use super::{Lock, Purpose};
use crate::repair::restore::Kept;
use crate::repair::save::Found;
use crate::repair::saved::{Lost, Saved};
use crate::{Error, Result};
use mycedrive_dmtcp_wire::{SocketId, Token};
use std::collections::HashMap;

/// Number of a connection to the helper.
pub(super) type SessionId = u64;

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its sockets are being read, or its image written.
    Checkpoint,
    /// All its sockets are read.
    Suspended,
    /// It comes from an image.
    Restart(Token),
    Held(Option<Token>),
}

#[derive(Default)]
pub(super) struct Book {
    purpose: Purpose,
    /// To be called before the first socket is read.
    lock: Option<Lock>,
    /// Why it could not be locked.
    not_locked: Option<Error>,
    /// Who is suspended may write.
    writes: bool,
    saved: Saved,
    lost: Vec<Lost>,
    kept: HashMap<SocketId, Kept>,
    /// Numbers of the sockets that were read, by cookie.
    known: HashMap<u64, SocketId>,
    processes: HashMap<SessionId, Stage>,
    /// Tokens of the processes that [`super::Helper::restore`] expects.
    expected: Option<Vec<Token>>,
    /// Goes up when the held are let go.
    released: u64,
}

impl Book {
    pub(super) fn begin(&mut self, purpose: Purpose, lock: Option<Lock>) {
        self.forget();
        self.purpose = purpose;
        self.lock = lock;
    }

    /// A process is about to show its sockets; those that come after it wait here.
    pub(super) fn lock(&mut self) {
        if let Some(Err(error)) = self.lock.take().map(|lock| lock()) {
            self.purpose = Purpose::Copy;
            self.not_locked = Some(error);
        }
    }

    /// Why the network was not locked.
    pub(super) fn not_locked(&mut self) -> Option<Error> {
        self.not_locked.take()
    }

    fn forget(&mut self) {
        self.purpose = Purpose::Round;
        self.lock = None;
        self.not_locked = None;
        self.writes = false;
        self.saved = Saved::default();
        self.lost.clear();
        self.kept.clear();
        self.known.clear();
        self.expected = None;
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(super) fn released(&self) -> u64 {
        self.released
    }

    pub(super) fn lost(&self) -> &[Lost] {
        &self.lost
    }

    pub(super) fn saved(&self) -> &Saved {
        &self.saved
    }

    pub(super) fn known(&self, cookie: u64) -> Option<SocketId> {
        self.known.get(&cookie).copied()
    }

    /// Enter a socket that was read. Another session may have been faster.
    pub(super) fn enter(&mut self, cookie: u64, found: Found, kept: Kept) -> SocketId {
        if let Some(id) = self.known(cookie) {
            return id;
        }
        self.saved.sockets.push(found.socket);
        let id = self.saved.sockets.len() as SocketId;
        self.lost.extend(found.lost);
        self.kept.insert(id, kept);
        self.known.insert(cookie, id);
        id
    }

    /// A socket of a process that a helper before this one has held; it only has to be released.
    pub(super) fn adopt(&mut self, cookie: u64, kept: Kept) {
        let next = SocketId::MAX - self.kept.len() as SocketId;
        if self.known.insert(cookie, 0).is_none() {
            self.kept.insert(next, kept);
        }
    }

    pub(super) fn joins(&mut self, session: SessionId) {
        self.processes.insert(session, Stage::Checkpoint);
    }

    pub(super) fn suspends(&mut self, session: SessionId, token: Option<Token>) {
        self.saved.tokens.extend(token);
        if let Some(stage) = self.processes.get_mut(&session) {
            *stage = Stage::Suspended;
        }
    }

    pub(super) fn write(&mut self) {
        self.writes = true;
    }

    pub(super) fn writes(&self) -> bool {
        self.writes
    }

    /// How many processes are suspended with all their sockets read, or further.
    pub(super) fn suspended(&self) -> usize {
        let is = |stage: &&Stage| matches!(stage, Stage::Suspended | Stage::Held(None));
        self.processes.values().filter(is).count()
    }

    pub(super) fn restarts(&mut self, session: SessionId, token: Token) -> bool {
        let expected = self
            .expected
            .as_ref()
            .is_some_and(|all| all.contains(&token));
        if expected {
            self.processes.insert(session, Stage::Restart(token));
        }
        expected
    }

    /// Whether a process may be held: it must have said what it is before.
    pub(super) fn holds(&mut self, session: SessionId) -> bool {
        match self.processes.get_mut(&session) {
            Some(stage @ Stage::Suspended) => *stage = Stage::Held(None),
            Some(stage) => match *stage {
                Stage::Restart(token) => *stage = Stage::Held(Some(token)),
                _ => return false,
            },
            None => return false,
        }
        true
    }

    pub(super) fn leaves(&mut self, session: SessionId) {
        self.processes.remove(&session);
    }

    pub(super) fn kept(&self, id: SocketId) -> Option<&Kept> {
        self.kept.get(&id)
    }

    /// How many processes of the checkpoint are held, and how many there are.
    pub(super) fn held(&self) -> (usize, usize) {
        let is = |stage: &&Stage| matches!(stage, Stage::Held(None));
        let held = self.processes.values().filter(is).count();
        (held, self.processes.len())
    }

    /// How many restarted processes are held, and how many are expected.
    pub(super) fn restarted(&self) -> (usize, usize) {
        let Some(expected) = &self.expected else {
            return (0, 1);
        };
        let is = |token: &&Token| {
            let held = Stage::Held(Some(**token));
            self.processes.values().any(|stage| *stage == held)
        };
        (expected.iter().filter(is).count(), expected.len())
    }

    pub(super) fn restored(&mut self, tokens: Vec<Token>, made: Vec<(SocketId, Kept)>) {
        self.forget();
        self.expected = Some(tokens);
        self.kept = made.into_iter().collect();
    }

    pub(super) fn release(&mut self) -> Result<()> {
        let mut failed = Vec::new();
        for kept in self.kept.values_mut() {
            failed.extend(kept.release().err());
        }
        self.forget();
        self.processes.clear();
        self.released += 1;
        let count = failed.len();
        match failed.into_iter().next() {
            None => Ok(()),
            Some(source) => Err(Error::Release { count, source }),
        }
    }

    pub(super) fn vanish(&mut self) {
        self.forget();
    }
}

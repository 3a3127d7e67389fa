//! The coordinator's requests and answers: one struct of 208 bytes each way, in the machine's
//! byte order (facts from DMTCP's `dmtcpmessagetypes.h` and `dmtcp_coordinator.cpp`).
//!
//! From version 5 on the numbers of the message types moved by one, and commands are numbers;
//! before they are the letters of `dmtcp_command`.

use std::io;

/// Bytes of a message.
pub(super) const LENGTH: usize = 208;
/// Most bytes after an answer: the list of processes.
const MOST_EXTRA: u32 = 1 << 20;

const MAGIC: &[u8; 15] = b"DMTCP_CKPT_V0\n\0";
const SIZE_AT: usize = 88;
const EXTRA_AT: usize = 92;
const TYPE_AT: usize = 96;
const PEERS_AT: usize = 168;
const RUNNING_AT: usize = 172;
const COMMAND_AT: usize = 176;
const STATUS_AT: usize = 180;
const INTERVAL_AT: usize = 192;
/// "The same interval as before."
const SAME_INTERVAL: u32 = u32::MAX;

/// What a coordinator is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// How many processes there are, and whether all of them run.
    Status,
    /// Begin a checkpoint.
    Checkpoint,
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Processes that are connected.
    pub peers: u32,
    /// Whether all of them run (only [`Command::Status`] fills it in).
    pub running: bool,
    /// Whether it did what it was asked.
    pub done: bool,
    /// Bytes that follow.
    pub extra: u32,
}

/// How a version numbers things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// 4.x.
    Letters,
    /// 5.x.
    Numbers,
}

impl Dialect {
    /// Of a version such as `4.2.0`.
    pub(super) fn of(version: &str) -> Self {
        let major = version.split('.').next().and_then(|text| text.parse().ok());
        if major.is_some_and(|major: u32| major >= 5) {
            Self::Numbers
        } else {
            Self::Letters
        }
    }

    const fn request_type(self) -> u32 {
        match self {
            Self::Letters => 15,
            Self::Numbers => 16,
        }
    }

    const fn command(self, command: Command) -> u32 {
        match (self, command) {
            (Self::Letters, Command::Status) => b's' as u32,
            (Self::Letters, Command::Checkpoint) => b'c' as u32,
            (Self::Numbers, Command::Status) => 1,
            (Self::Numbers, Command::Checkpoint) => 3,
        }
    }

    /// A request.
    pub(super) fn encode(self, command: Command) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        for (at, value) in [
            (SIZE_AT, LENGTH as u32),
            (TYPE_AT, self.request_type()),
            (COMMAND_AT, self.command(command)),
            (INTERVAL_AT, SAME_INTERVAL),
        ] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    /// An answer.
    pub(super) fn decode(self, bytes: &[u8; LENGTH]) -> io::Result<Answer> {
        let number = |at: usize| {
            let mut value = [0; 4];
            value.copy_from_slice(&bytes[at..at + 4]);
            u32::from_ne_bytes(value)
        };
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if !bytes.starts_with(MAGIC) {
            return wrong("the coordinator's answer does not begin as DMTCP's do");
        }
        if number(SIZE_AT) != LENGTH as u32 || number(TYPE_AT) != self.request_type() + 1 {
            return wrong("the coordinator answers in a form that this version does not know");
        }
        if number(EXTRA_AT) > MOST_EXTRA {
            return wrong("the coordinator's answer is too long");
        }
        Ok(Answer {
            peers: number(PEERS_AT),
            running: number(RUNNING_AT) != 0,
            done: number(STATUS_AT) == 0,
            extra: number(EXTRA_AT),
        })
    }
}

#[cfg(test)]
mod tests;

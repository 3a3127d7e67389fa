//! The part that a pod plays in a migration, as one enum with checked transitions.
//!
//! The daemon repeats calls after a restart, so each check answers one of three things: do it,
//! it is done ([`Check::Done`]), or an error that says why not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mycedrive_connection::Route;
use mycedrive_proto::shim::Role;

use crate::error::{Error, Result};

/// A pod's migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Migration {
    /// None; or one that was undone.
    #[default]
    None,
    /// The pod leaves this node.
    Source(Source),
    /// The pod comes to this node.
    Destination(Destination),
}

/// The source's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The migration.
    pub id: String,
    /// How far it is.
    pub stage: SourceStage,
    /// Whether connections move.
    pub keep_connections: bool,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// `CLOCK_REALTIME` in nanoseconds when the last process stood still.
    pub frozen_at_ns: u64,
    /// What Dump answered.
    pub dump: Dumped,
    /// Held: where the pod runs now.
    pub destination: String,
    /// How the pod had come here, if it did: what it is again if it goes on here.
    pub came: Option<Destination>,
    /// Held: it runs nowhere, its image is parked on this node.
    pub parked: bool,
}

/// What a dump made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Names of the containers that have an image.
    pub containers: Vec<String>,
    /// How long it took.
    pub milliseconds: u64,
}

/// What came of undoing a freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The processes run.
    Runs,
    /// They would end; their images are whole, and nothing was undone.
    OnlyImage {
        /// Why they would.
        why: String,
        /// As of [`Source`].
        frozen_at_ns: u64,
    },
}

/// Stages of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceStage {
    /// Nothing of it runs, the network is locked.
    Frozen,
    /// The images are written.
    Dumped,
    /// The pod runs elsewhere.
    Held,
}

/// The destination's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The migration.
    pub id: String,
    /// How far it is.
    pub stage: DestinationStage,
    /// Whether connections move.
    pub keep_connections: bool,
    /// The old addresses that this pod has taken, by route; without those given back.
    pub routes: BTreeMap<Route, Vec<IpAddr>>,
    /// What Restore answered: container names and pids.
    pub pids: Vec<(String, i32)>,
    /// How long the restore took.
    pub milliseconds: u64,
}

/// Stages of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DestinationStage {
    /// The network is locked and the old addresses are here.
    Adopted,
    /// The processes exist, stopped.
    Restored,
    /// The processes run.
    Running,
}

/// Whether a step is still to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Do it.
    Do,
    /// It was done before: answer as then.
    Done,
}

impl Migration {
    /// The migration's id, while there is one.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Source(source) => Some(&source.id),
            Self::Destination(destination) => Some(&destination.id),
        }
    }

    /// The role for Describe.
    pub fn role(&self) -> Role {
        match self {
            Self::None => Role::ROLE_NONE,
            Self::Source(_) => Role::ROLE_SOURCE,
            Self::Destination(_) => Role::ROLE_DESTINATION,
        }
    }

    /// A source that may be frozen: a pod in no migration, or one that came here and runs.
    pub fn check_freeze(&self, id: &str) -> Result<Check> {
        match self {
            Self::None => Ok(Check::Do),
            Self::Destination(to) if to.stage == DestinationStage::Running && to.id != id => {
                Ok(Check::Do)
            }
            Self::Source(from) if from.id == id && from.stage != SourceStage::Held => {
                Ok(Check::Done)
            }
            _ => Err(self.refuse("freeze", id)),
        }
    }

    /// A source that is frozen.
    pub fn check_dump(&self, id: &str) -> Result<Check> {
        match self {
            Self::Source(from) if from.id == id => match from.stage {
                SourceStage::Frozen => Ok(Check::Do),
                SourceStage::Dumped => Ok(Check::Done),
                SourceStage::Held => Err(self.refuse("dump", id)),
            },
            _ => Err(self.refuse("dump", id)),
        }
    }

    /// A source that can still go back. One that is in no migration did.
    pub fn check_resume(&self, id: &str) -> Result<Check> {
        match self {
            Self::None => Ok(Check::Done),
            Self::Source(from) if from.id == id && from.stage != SourceStage::Held => Ok(Check::Do),
            _ => Err(self.refuse("resume", id)),
        }
    }

    /// A source whose destination runs.
    pub fn check_discard(&self, id: &str) -> Result<Check> {
        match self {
            Self::Source(from) if from.id == id => match from.stage {
                SourceStage::Frozen | SourceStage::Dumped => Ok(Check::Do),
                SourceStage::Held => Ok(Check::Done),
            },
            _ => Err(self.refuse("discard", id)),
        }
    }

    /// A destination that has nothing yet. Adopting twice is harmless.
    pub fn check_adopt(&self, id: &str) -> Result<Check> {
        match self {
            Self::None => Ok(Check::Do),
            Self::Destination(to) if to.id == id => match to.stage {
                DestinationStage::Adopted => Ok(Check::Do),
                _ => Ok(Check::Done),
            },
            _ => Err(self.refuse("adopt the addresses of", id)),
        }
    }

    /// A destination under its lock.
    pub fn check_restore(&self, id: &str) -> Result<Check> {
        match self {
            Self::Destination(to) if to.id == id => match to.stage {
                DestinationStage::Adopted => Ok(Check::Do),
                _ => Ok(Check::Done),
            },
            _ => Err(self.refuse("restore", id)),
        }
    }

    /// A destination that was restored.
    pub fn check_run(&self, id: &str) -> Result<Check> {
        match self {
            Self::Destination(to) if to.id == id => match to.stage {
                DestinationStage::Restored => Ok(Check::Do),
                DestinationStage::Running => Ok(Check::Done),
                DestinationStage::Adopted => Err(self.refuse("run", id)),
            },
            _ => Err(self.refuse("run", id)),
        }
    }

    /// A destination that does not run. One that is in no migration was undone.
    pub fn check_abort(&self, id: &str) -> Result<Check> {
        match self {
            Self::None => Ok(Check::Done),
            Self::Destination(to) if to.id == id && to.stage != DestinationStage::Running => {
                Ok(Check::Do)
            }
            _ => Err(self.refuse("abort", id)),
        }
    }

    /// A destination that runs, or has moved on. While it is frozen for its next move its
    /// sockets need their addresses.
    pub fn check_drop_route(&self, id: &str, route: Route) -> Result<Check> {
        let to = match self {
            Self::Destination(to) if to.id == id && to.stage == DestinationStage::Running => to,
            Self::Source(Source {
                came: Some(to),
                stage,
                ..
            }) if to.id == id => {
                if *stage != SourceStage::Held {
                    return Err(self.refuse("drop a route of", id));
                }
                to
            }
            Self::None | Self::Source(_) => return Ok(Check::Done),
            Self::Destination(_) => return Err(self.refuse("drop a route of", id)),
        };
        Ok(if to.routes.contains_key(&route) {
            Check::Do
        } else {
            Check::Done
        })
    }

    /// The pod is frozen, to leave. How it had come here is kept.
    pub fn leave(&mut self, mut source: Source) {
        if let Self::Destination(to) = self {
            source.came = Some(to.clone());
        }
        *self = Self::Source(source);
    }

    /// It goes on here: it is what it was before.
    pub fn stay(&mut self) {
        *self = match self {
            Self::Source(Source {
                came: Some(came), ..
            }) => Self::Destination(came.clone()),
            _ => Self::None,
        };
    }

    /// The old addresses that this pod has.
    pub fn routes(&mut self) -> Option<&mut BTreeMap<Route, Vec<IpAddr>>> {
        match self {
            Self::Destination(to) | Self::Source(Source { came: Some(to), .. }) => {
                Some(&mut to.routes)
            }
            _ => None,
        }
    }

    fn refuse(&self, verb: &str, id: &str) -> Error {
        Error::Precondition(format!("cannot {verb} migration {id}: this pod {self}"))
    }
}

impl std::fmt::Display for Migration {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => write!(to, "is in no migration"),
            Self::Source(source) => {
                let stage = match source.stage {
                    SourceStage::Frozen => "frozen",
                    SourceStage::Dumped => "frozen and dumped",
                    SourceStage::Held => "held, it runs elsewhere",
                };
                write!(to, "is the source of migration {}, {stage}", source.id)
            }
            Self::Destination(destination) => {
                let stage = match destination.stage {
                    DestinationStage::Adopted => "waiting under its network lock",
                    DestinationStage::Restored => "restored, not running",
                    DestinationStage::Running => "running",
                };
                write!(
                    to,
                    "is the destination of migration {}, {stage}",
                    destination.id
                )
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

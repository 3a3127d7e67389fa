//! Where a pod runs, decided so that nothing is lost and nothing runs twice.
//!
//! Two state machines, [`source::Source`] and [`destination::Destination`], take events (a
//! peer's message, a shim's reply, a person's decision, a restart) and answer with actions
//! ([`source::Action`], [`destination::Action`]) which the daemon carries out **in order**; an
//! action `Record` must be durable before the next one begins. The machines do no I/O. The
//! [`journal`] makes records durable, [`away`] keeps a pod that left from being started here
//! again, [`fault`] names the places where tests break things.
//!
//! # Invariants (DESIGN section 8)
//!
//! 1. At any instant the pod's processes can run on at most one node.
//! 2. The source thaws only when the destination can never record `RUN`: the source never
//!    offered, or the destination durably recorded `ABORT`.
//! 3. After `RUN` the destination is the pod. The source discards its frozen copy only after
//!    the destination durably recorded that the processes run.
//! 4. If the two cannot talk after the offer, the source stays frozen, unless its
//!    [`Policy`] or a person says otherwise.
//! 5. A restart at any step ends in completed, rolled back or held.
//!
//! `tests/model.rs` explores every interleaving of both machines with messages that are lost,
//! repeated and reordered, and with crashes between any two actions. A person who overrules
//! (`resolve`) or a policy other than `hold` takes the responsibility for 1 to 3; the model
//! covers a person who tells the truth.

pub mod away;
pub mod destination;
pub mod fault;
pub mod journal;
pub mod source;

use serde::{Deserialize, Serialize};

/// What the destination says about a migration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Not decided yet: the source goes on waiting.
    Undecided,
    /// The destination runs the pod, durably recorded.
    Running,
    /// The destination can never run the pod, durably recorded.
    Aborted {
        /// Why, for people.
        reason: String,
    },
}

/// What the source does when it offered and cannot learn the destination's decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Stay frozen until the destination answers or a person decides. The only safe choice.
    #[default]
    Hold,
    /// Thaw: the pod may run twice if the destination runs it and is only unreachable.
    PreferSource,
    /// Discard: the pod is lost if the destination never ran it.
    PreferDestination,
}

/// The side a person chose with `mycedrive resolve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The pod goes on at the source; the person vouches that it does not run elsewhere.
    Source,
    /// The destination has the pod; the frozen copy is given up.
    Destination,
}

/// An event that the state does not allow; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible while the migration is {state}")]
pub struct Refused {
    /// What was asked.
    pub event: String,
    /// The state at that moment.
    pub state: String,
}

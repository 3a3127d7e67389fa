//! The node that holds the pod.

use serde::{Deserialize, Serialize};

use crate::{Policy, Refused, Side, Verdict};

/// A durable step of the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Authorised. Nothing was touched.
    Opened,
    /// The shim is about to be asked to freeze; the pod may be frozen from here on.
    Freezing,
    /// The destination has everything. From here on only its decision or a person ends this.
    Offered,
    /// The pod is about to be thawed; it will never be offered again.
    Thawing {
        /// Why.
        reason: String,
    },
    /// The pod runs here again (or never stopped). Final.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// The destination runs the pod; the frozen copy is about to be discarded.
    Committed,
    /// Discarded; the containers are held. Final.
    Done,
}

/// Where the source is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// Authorised; rounds may run; the pod runs.
    Opened,
    /// The shim freezes the pod.
    Freezing,
    /// Frozen; images and last changes are on their way.
    Frozen,
    /// Offered; waits for the decision.
    Offered,
    /// Offered, and the decision cannot be learned.
    Held,
    /// The destination runs it; the shim discards.
    Discarding,
    /// The end: the pod is at the destination.
    Done,
    /// The shim thaws.
    RollingBack {
        /// Why.
        reason: String,
    },
    /// The end: the pod is here.
    RolledBack {
        /// Why.
        reason: String,
    },
}

impl State {
    /// One word for people and for the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened => "copying",
            Self::Freezing => "freezing",
            Self::Frozen => "frozen",
            Self::Offered => "offered",
            Self::Held => "held",
            Self::Discarding => "discarding",
            Self::Done => "completed",
            Self::RollingBack { .. } => "rolling back",
            Self::RolledBack { .. } => "rolled back",
        }
    }

    /// Nothing will change any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::RolledBack { .. })
    }
}

/// What happens to the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The destination asks for the final round.
    FreezeAsked,
    /// The shim froze the pod.
    Frozen,
    /// The stream broke, the dump failed, the destination went silent, the pod was deleted.
    Failed {
        /// What.
        reason: String,
    },
    /// The destination says that it has everything.
    OfferReceived {
        /// Its digest equals what was sent.
        matches: bool,
    },
    /// The destination tells its decision; it waits for a reply.
    ConcludeReceived(Verdict),
    /// The destination's answer to our question.
    Answered(Verdict),
    /// The decision was not learned within the time the configuration allows.
    Overdue {
        /// The destination answers, but has not decided.
        reachable: bool,
    },
    /// The shim thawed the pod, or the pod is gone.
    Resumed,
    /// The shim discarded the frozen copy, or the pod is gone.
    Discarded,
    /// A person decides.
    Resolved(Side),
}

/// What the daemon has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make this durable before going on.
    Record(Step),
    /// Ask the shim to freeze; answer with [`Event::Frozen`] or [`Event::Failed`].
    Freeze,
    /// Ask the shim to thaw, until it did; answer with [`Event::Resumed`].
    Resume,
    /// Ask the shim to discard, until it did; answer with [`Event::Discarded`].
    Discard,
    /// Ask the destination, with back-off; answer with [`Event::Answered`].
    Ask,
    /// The offer stands.
    AcceptOffer,
    /// The offer is refused: the destination must abort.
    RefuseOffer,
    /// The decision is known and durable here.
    AcknowledgeConclude,
    /// The decision contradicts one that a person made here.
    RefuseConclude,
}

/// The source's state machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    state: State,
    policy: Policy,
}

impl Source {
    /// A migration that was just authorised.
    pub fn open(policy: Policy) -> (Self, Vec<Action>) {
        let state = State::Opened;
        (Self { state, policy }, vec![Action::Record(Step::Opened)])
    }

    /// After a restart: the state that the journal's steps lead to and what has to be done.
    /// `None` when nothing was recorded.
    pub fn recover(steps: &[Step], policy: Policy) -> Option<(Self, Vec<Action>)> {
        let reason = || "the source's daemon was restarted".to_owned();
        let (state, actions) = match steps.last()? {
            Step::Opened => {
                let step = Step::RolledBack { reason: reason() };
                let state = State::RolledBack { reason: reason() };
                (state, vec![Action::Record(step)])
            }
            Step::Freezing => {
                let state = State::RollingBack { reason: reason() };
                (state, vec![Action::Resume])
            }
            Step::Offered => (State::Offered, vec![Action::Ask]),
            Step::Thawing { reason } => {
                let reason = reason.clone();
                (State::RollingBack { reason }, vec![Action::Resume])
            }
            Step::RolledBack { reason } => {
                let reason = reason.clone();
                (State::RolledBack { reason }, vec![])
            }
            Step::Committed => (State::Discarding, vec![Action::Discard]),
            Step::Done => (State::Done, vec![]),
        };
        Some((Self { state, policy }, actions))
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes an event. An event that is late or repeated leads to no action, or to the same
    /// reply as before.
    ///
    /// # Errors
    /// [`Refused`] when a request does not fit the state; nothing changed.
    pub fn on(&mut self, event: Event) -> Result<Vec<Action>, Refused> {
        match event {
            Event::FreezeAsked => self.freeze_asked(),
            Event::Frozen => {
                if self.state == State::Freezing {
                    self.state = State::Frozen;
                }
                Ok(vec![])
            }
            Event::Failed { reason } => Ok(match self.state {
                State::Opened => self.rolled_back(reason, None),
                State::Freezing | State::Frozen => self.thaw(reason, None),
                _ => vec![],
            }),
            Event::OfferReceived { matches } => Ok(self.offer(matches)),
            Event::ConcludeReceived(verdict) => self.conclude(verdict),
            Event::Answered(verdict) => Ok(self.answered(verdict)),
            Event::Overdue { reachable } => Ok(self.overdue(reachable)),
            Event::Resumed => Ok(match &self.state {
                State::RollingBack { reason } => {
                    let reason = reason.clone();
                    self.rolled_back(reason, None)
                }
                _ => vec![],
            }),
            Event::Discarded => Ok(if self.state == State::Discarding {
                self.state = State::Done;
                vec![Action::Record(Step::Done)]
            } else {
                vec![]
            }),
            Event::Resolved(side) => self.resolved(side),
        }
    }

    fn freeze_asked(&mut self) -> Result<Vec<Action>, Refused> {
        if self.state != State::Opened {
            return Err(self.refused("a freeze"));
        }
        self.state = State::Freezing;
        Ok(vec![Action::Record(Step::Freezing), Action::Freeze])
    }

    fn offer(&mut self, matches: bool) -> Vec<Action> {
        match self.state {
            State::Frozen if matches => {
                self.state = State::Offered;
                vec![Action::Record(Step::Offered), Action::AcceptOffer]
            }
            State::Offered | State::Held if matches => vec![Action::AcceptOffer],
            _ => vec![Action::RefuseOffer],
        }
    }

    fn conclude(&mut self, verdict: Verdict) -> Result<Vec<Action>, Refused> {
        let acknowledge = Some(Action::AcknowledgeConclude);
        Ok(match (&self.state, verdict) {
            (_, Verdict::Undecided) => return Err(self.refused("an undecided conclusion")),
            (State::Offered | State::Held, Verdict::Running) => self.commit(acknowledge),
            (State::Discarding | State::Done, Verdict::Running)
            | (State::RollingBack { .. } | State::RolledBack { .. }, Verdict::Aborted { .. }) => {
                vec![Action::AcknowledgeConclude]
            }
            (State::Opened, Verdict::Aborted { reason }) => self.rolled_back(reason, acknowledge),
            (
                State::Freezing | State::Frozen | State::Offered | State::Held,
                Verdict::Aborted { reason },
            ) => self.thaw(reason, acknowledge),
            (
                State::Opened
                | State::Freezing
                | State::Frozen
                | State::RollingBack { .. }
                | State::RolledBack { .. },
                Verdict::Running,
            )
            | (State::Discarding | State::Done, Verdict::Aborted { .. }) => {
                vec![Action::RefuseConclude]
            }
        })
    }

    fn answered(&mut self, verdict: Verdict) -> Vec<Action> {
        match (&self.state, verdict) {
            (State::Offered | State::Held, Verdict::Running) => self.commit(None),
            (State::Offered | State::Held, Verdict::Aborted { reason }) => self.thaw(reason, None),
            _ => vec![],
        }
    }

    fn overdue(&mut self, reachable: bool) -> Vec<Action> {
        match (&self.state, self.policy) {
            (State::Offered | State::Held, Policy::PreferSource) if !reachable => self.thaw(
                "the destination does not answer and the policy prefers the source".to_owned(),
                None,
            ),
            (State::Offered | State::Held, Policy::PreferDestination) if !reachable => {
                self.commit(None)
            }
            (State::Offered, _) => {
                self.state = State::Held;
                vec![]
            }
            _ => vec![],
        }
    }

    fn resolved(&mut self, side: Side) -> Result<Vec<Action>, Refused> {
        match (&self.state, side) {
            (State::Offered | State::Held, Side::Source) => Ok(self.thaw(
                "a person decided that the pod goes on at the source".to_owned(),
                None,
            )),
            (State::Offered | State::Held, Side::Destination) => Ok(self.commit(None)),
            _ => Err(self.refused("a person's decision")),
        }
    }

    fn commit(&mut self, reply: Option<Action>) -> Vec<Action> {
        self.state = State::Discarding;
        let mut actions = vec![Action::Record(Step::Committed)];
        actions.extend(reply);
        actions.push(Action::Discard);
        actions
    }

    fn thaw(&mut self, reason: String, reply: Option<Action>) -> Vec<Action> {
        let step = Step::Thawing {
            reason: reason.clone(),
        };
        self.state = State::RollingBack { reason };
        let mut actions = vec![Action::Record(step)];
        actions.extend(reply);
        actions.push(Action::Resume);
        actions
    }

    fn rolled_back(&mut self, reason: String, reply: Option<Action>) -> Vec<Action> {
        let step = Step::RolledBack {
            reason: reason.clone(),
        };
        self.state = State::RolledBack { reason };
        let mut actions = vec![Action::Record(step)];
        actions.extend(reply);
        actions
    }

    fn refused(&self, event: &str) -> Refused {
        Refused {
            event: event.to_owned(),
            state: self.state.name().to_owned(),
        }
    }
}

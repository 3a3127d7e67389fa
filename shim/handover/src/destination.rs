//! The node that takes the pod over. It alone decides, by recording `RUN` or `ABORT`. `RUN` can be
//! withdrawn only while it is certain that no instruction ran.

use serde::{Deserialize, Serialize};

use crate::Verdict;

/// A durable step of the destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// About to open the migration at the source.
    Opened,
    /// The decision: this node is the pod. The restored processes are about to be let go.
    Run,
    /// The shim confirmed that they run.
    Running,
    /// The source knows that they run; the temporary route may be needed.
    Concluded,
    /// The old connections ended. Final.
    Done,
    /// The decision: this node will never run the pod.
    Abort {
        /// Why.
        reason: String,
    },
    /// Undone here and known to the source. Final.
    Aborted,
    /// `RUN` was recorded, then the stopped processes ended before one of them ran: this node will
    /// never run the pod.
    Withdrawn {
        /// Why.
        reason: String,
    },
    /// `RUN` was recorded, then the pod was deleted before its processes were known to run.
    /// A person decides at the source. Final.
    Lost,
    /// A person decided at the source that the pod goes on there, against our `RUN`.
    Overruled,
}

/// Where the destination is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// The source is asked.
    Opened,
    /// Rounds while the pod runs at the source.
    Copying,
    /// The source freezes and sends the final round.
    Receiving,
    /// Everything is here and verified.
    Received {
        /// The processes exist, stopped.
        restored: bool,
        /// The source accepted the offer.
        accepted: bool,
    },
    /// `RUN` is durable; the shim lets the processes go.
    Run,
    /// They run; the source must hear it.
    Running,
    /// The source knows; old connections may need the route.
    Routed,
    /// The end: the pod is here.
    Done,
    /// `ABORT` is durable; the shim undoes, the source must hear it.
    Aborting {
        /// Why.
        reason: String,
        /// The shim has undone everything.
        undone: bool,
        /// The source knows.
        told: bool,
    },
    /// The end: the pod is not here.
    Aborted {
        /// Why.
        reason: String,
    },
    /// The end here: a person decides at the source.
    Lost,
}

impl State {
    /// A few words for people and for the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened => "opening",
            Self::Copying => "copying",
            Self::Receiving => "receiving the final round",
            Self::Received { .. } => "restoring",
            Self::Run => "starting",
            Self::Running => "running, telling the source",
            Self::Routed => "running, old connections routed",
            Self::Done => "completed",
            Self::Aborting { .. } => "aborting",
            Self::Aborted { .. } => "aborted",
            Self::Lost => "lost",
        }
    }

    /// Nothing will change any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::Aborted { .. } | Self::Lost)
    }

    /// `RUN` was not recorded and still may be.
    pub fn is_undecided(&self) -> bool {
        matches!(
            self,
            Self::Opened | Self::Copying | Self::Receiving | Self::Received { .. }
        )
    }
}

/// What happens to the destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The source authorised; the first round begins.
    CopyStarted,
    /// All containers have arrived and the rounds are over: ask for the freeze.
    FreezeStarted,
    /// The final round is complete and its digest is right.
    Verified,
    /// The shim restored every container, stopped.
    Restored,
    /// The source accepted the offer.
    OfferAccepted,
    /// Anything went wrong, was refused or cancelled. Has no effect after `RUN`.
    Failed {
        /// What.
        reason: String,
    },
    /// The pod here is deleted.
    PodGone,
    /// The shim confirmed that the processes run.
    Ran,
    /// It is certain that after `RUN` no instruction of the pod's ran here, and none ever will:
    /// the shim died before it let the processes go, and they ended stopped.
    NeverRan {
        /// How that came.
        reason: String,
    },
    /// The source acknowledged `RUNNING`.
    RunningAcknowledged,
    /// The source acknowledged `ABORTED`, or does not know the migration.
    AbortAcknowledged,
    /// The source refuses `RUNNING`: a person decided there.
    Overruled,
    /// The shim undid everything, or is gone.
    Undone,
    /// The source asks.
    Asked,
    /// The last old connection ended or the old pod is gone.
    RelayEnded,
}

/// What the daemon has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make this durable before going on.
    Record(Step),
    /// Ask the source to open.
    Open,
    /// Ask the source to freeze and send.
    Freeze,
    /// Offer to the source; a lost answer is asked for again.
    Offer,
    /// Ask the shim to restore, stopped.
    Restore,
    /// Ask the shim to let the processes go, until it did.
    Run,
    /// Ask the shim to kill what was restored and give the addresses back, until it did.
    Undo,
    /// Tell the source, until it acknowledges: they run.
    TellRunning,
    /// Tell the source, until it acknowledges: they never will.
    TellAborted,
    /// Carry the old connections' packets.
    Relay,
    /// Drop the old addresses.
    DropRoute,
    /// Answer the source's question.
    Reply(Verdict),
}

/// The destination's state machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    state: State,
}

impl Destination {
    /// A new migration.
    pub fn open() -> (Self, Vec<Action>) {
        let machine = Self {
            state: State::Opened,
        };
        (machine, vec![Action::Record(Step::Opened), Action::Open])
    }

    /// A migration that this node does not know: the source asks for it, and gets an answer
    /// that stays true.
    pub fn unknown() -> (Self, Vec<Action>) {
        let reason = "the destination does not know this migration".to_owned();
        let machine = Self {
            state: State::Aborted {
                reason: reason.clone(),
            },
        };
        let verdict = Verdict::Aborted {
            reason: reason.clone(),
        };
        let actions = vec![
            Action::Record(Step::Abort { reason }),
            Action::Record(Step::Aborted),
            Action::Reply(verdict),
        ];
        (machine, actions)
    }

    /// After a restart: the state that the journal's steps lead to and what has to be done.
    /// `None` when nothing was recorded.
    pub fn recover(steps: &[Step]) -> Option<(Self, Vec<Action>)> {
        let aborting = |reason: &str, told| State::Aborting {
            reason: reason.to_owned(),
            undone: false,
            told,
        };
        let why = steps.iter().find_map(|step| match step {
            Step::Abort { reason } | Step::Withdrawn { reason } => Some(reason.as_str()),
            _ => None,
        });
        let (state, actions) = match steps.last()? {
            Step::Opened => {
                let mut machine = Self {
                    state: State::Opened,
                };
                let reason = "the destination's daemon was restarted".to_owned();
                let actions = machine.on(Event::Failed { reason });
                return Some((machine, actions));
            }
            Step::Run => (State::Run, vec![Action::Run]),
            Step::Running => (State::Running, vec![Action::TellRunning]),
            Step::Concluded => (State::Routed, vec![Action::Relay]),
            Step::Done => (State::Done, vec![]),
            Step::Abort { reason } | Step::Withdrawn { reason } => (
                aborting(reason, false),
                vec![Action::Undo, Action::TellAborted],
            ),
            Step::Overruled => (aborting(OVERRULED, true), vec![Action::Undo]),
            Step::Aborted => {
                let reason = why.unwrap_or(OVERRULED).to_owned();
                (State::Aborted { reason }, vec![])
            }
            Step::Lost => (State::Lost, vec![]),
        };
        Some((Self { state }, actions))
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes an event. An event that is late or repeated leads to no action.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::CopyStarted => {
                if self.state == State::Opened {
                    self.state = State::Copying;
                }
                vec![]
            }
            Event::FreezeStarted => match self.state {
                State::Opened | State::Copying => {
                    self.state = State::Receiving;
                    vec![Action::Freeze]
                }
                _ => vec![],
            },
            Event::Verified => {
                if self.state != State::Receiving {
                    return vec![];
                }
                self.state = State::Received {
                    restored: false,
                    accepted: false,
                };
                vec![Action::Offer, Action::Restore]
            }
            Event::Restored => match self.state {
                State::Received { accepted, .. } => self.ready(true, accepted),
                _ => vec![],
            },
            Event::OfferAccepted => match self.state {
                State::Received { restored, .. } => self.ready(restored, true),
                _ => vec![],
            },
            Event::Failed { reason } => self.abort(reason),
            Event::PodGone => self.pod_gone(),
            Event::Ran => {
                if self.state != State::Run {
                    return vec![];
                }
                self.state = State::Running;
                vec![Action::Record(Step::Running), Action::TellRunning]
            }
            Event::NeverRan { reason } => self.never_ran(reason),
            Event::RunningAcknowledged => {
                if self.state != State::Running {
                    return vec![];
                }
                self.state = State::Routed;
                vec![Action::Record(Step::Concluded), Action::Relay]
            }
            Event::AbortAcknowledged => self.aborting_went_on(false, true),
            Event::Undone => self.aborting_went_on(true, false),
            Event::Overruled => self.overruled(),
            Event::Asked => self.asked(),
            Event::RelayEnded => self.relay_ended(),
        }
    }

    fn ready(&mut self, restored: bool, accepted: bool) -> Vec<Action> {
        if restored && accepted {
            self.state = State::Run;
            return vec![Action::Record(Step::Run), Action::Run];
        }
        self.state = State::Received { restored, accepted };
        vec![]
    }

    fn abort(&mut self, reason: String) -> Vec<Action> {
        if !self.state.is_undecided() {
            return vec![];
        }
        let step = Step::Abort {
            reason: reason.clone(),
        };
        self.aborting(step, reason)
    }

    fn never_ran(&mut self, reason: String) -> Vec<Action> {
        if self.state != State::Run {
            return vec![];
        }
        let step = Step::Withdrawn {
            reason: reason.clone(),
        };
        self.aborting(step, reason)
    }

    /// What is recorded first is undone, and told to the source.
    fn aborting(&mut self, step: Step, reason: String) -> Vec<Action> {
        self.state = State::Aborting {
            reason,
            undone: false,
            told: false,
        };
        vec![Action::Record(step), Action::Undo, Action::TellAborted]
    }

    fn pod_gone(&mut self) -> Vec<Action> {
        match self.state {
            State::Run => {
                self.state = State::Lost;
                vec![Action::Record(Step::Lost)]
            }
            State::Routed => self.relay_ended(),
            _ => self.abort("the destination pod was deleted".to_owned()),
        }
    }

    fn aborting_went_on(&mut self, now_undone: bool, now_told: bool) -> Vec<Action> {
        let State::Aborting {
            reason,
            undone,
            told,
        } = &mut self.state
        else {
            return vec![];
        };
        *undone |= now_undone;
        *told |= now_told;
        if !(*undone && *told) {
            return vec![];
        }
        let reason = std::mem::take(reason);
        self.state = State::Aborted { reason };
        vec![Action::Record(Step::Aborted)]
    }

    fn overruled(&mut self) -> Vec<Action> {
        if self.state != State::Running {
            return vec![];
        }
        self.state = State::Aborting {
            reason: OVERRULED.to_owned(),
            undone: false,
            told: true,
        };
        vec![Action::Record(Step::Overruled), Action::Undo]
    }

    fn asked(&mut self) -> Vec<Action> {
        let verdict = match &self.state {
            State::Opened
            | State::Copying
            | State::Receiving
            | State::Received { .. }
            | State::Run
            | State::Lost => Verdict::Undecided,
            State::Running | State::Routed | State::Done => Verdict::Running,
            State::Aborting { reason, .. } | State::Aborted { reason } => Verdict::Aborted {
                reason: reason.clone(),
            },
        };
        vec![Action::Reply(verdict)]
    }

    fn relay_ended(&mut self) -> Vec<Action> {
        if self.state != State::Routed {
            return vec![];
        }
        self.state = State::Done;
        vec![Action::DropRoute, Action::Record(Step::Done)]
    }
}

const OVERRULED: &str = "a person decided at the source that the pod goes on there";

//! Both daemons, both shims, both disks and the network between them, as one value.
//!
//! The network is a set of messages that only grows: any message may arrive late, in any
//! order, any number of times, or never. That covers loss, repetition and reordering.

use std::collections::{BTreeSet, VecDeque};

use mycedrive_handover::destination::{self, Destination};
use mycedrive_handover::source::{self, Source};
use mycedrive_handover::{Policy, Side, Verdict};

/// A message that was sent at some time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Open,
    Opened,
    Freeze,
    Final,
    Offer,
    OfferAccepted,
    OfferRefused,
    TellRunning,
    TellAborted,
    RunningAcknowledged,
    AbortAcknowledged,
    Overruled,
    Ask,
    Undecided,
    Running,
    Aborted,
}

/// The pod's processes on the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Here {
    Running,
    Frozen,
    Discarded,
}

/// The pod's processes on the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum There {
    Nothing,
    Stopped,
    Running,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub policy: Policy,
    pub a: Option<Source>,
    pub a_todo: VecDeque<source::Action>,
    pub a_disk: Vec<source::Step>,
    pub a_shim: Here,
    /// Replies of the shim that the daemon has not taken yet; lost when it crashes.
    pub a_replies: BTreeSet<u8>,
    pub b: Option<Destination>,
    pub b_todo: VecDeque<destination::Action>,
    pub b_disk: Vec<destination::Step>,
    pub b_shim: There,
    pub b_replies: BTreeSet<u8>,
    /// The destination's shim died while the processes were stopped, and they with it.
    pub b_never_ran: bool,
    /// The destination node is lost for ever.
    pub b_dead: bool,
    /// A person decided at the source.
    pub resolved: bool,
    pub network: BTreeSet<Message>,
}

const FROZEN: u8 = 0;
const RESUMED: u8 = 1;
const DISCARDED: u8 = 2;
const RESTORED: u8 = 3;
const RAN: u8 = 4;
const UNDONE: u8 = 5;

impl World {
    pub fn new(policy: Policy) -> Self {
        let (b, todo) = Destination::open();
        Self {
            policy,
            a: None,
            a_todo: VecDeque::new(),
            a_disk: vec![],
            a_shim: Here::Running,
            a_replies: BTreeSet::new(),
            b: Some(b),
            b_todo: todo.into(),
            b_disk: vec![],
            b_shim: There::Nothing,
            b_replies: BTreeSet::new(),
            b_never_ran: false,
            b_dead: false,
            resolved: false,
            network: BTreeSet::new(),
        }
    }

    /// Every world that can follow this one, failures included.
    pub fn next(&self) -> Vec<Self> {
        let mut worlds = vec![];
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            if world != *self {
                worlds.push(world);
            }
        };
        add(&Self::a_works);
        add(&Self::b_works);
        add(&Self::a_crashes);
        add(&Self::b_crashes);
        add(&Self::a_recovers);
        add(&Self::b_recovers);
        add(&Self::b_dies);
        add(&Self::b_shim_dies_stopped);
        if self.b_never_ran {
            add(&|world| world.b_event(destination::Event::NeverRan { reason: why() }));
        }
        for message in &self.network {
            add(&|world| world.a_hears(message));
            add(&|world| world.b_hears(message));
        }
        for reply in &self.a_replies {
            add(&|world| world.a_reply(*reply));
        }
        for reply in &self.b_replies {
            add(&|world| world.b_reply(*reply));
        }
        add(&Self::a_streams);
        add(&|world| world.a_event(source::Event::Failed { reason: why() }));
        add(&|world| world.a_event(source::Event::Overdue { reachable: false }));
        add(&|world| world.a_event(source::Event::Overdue { reachable: true }));
        add(&|world| world.b_event(destination::Event::Failed { reason: why() }));
        add(&Self::b_pod_gone);
        add(&|world| world.b_event(destination::Event::CopyStarted));
        add(&|world| world.b_event(destination::Event::RelayEnded));
        if self.may_resolve(Side::Source) {
            add(&|world| world.resolve(Side::Source));
        }
        if self.may_resolve(Side::Destination) {
            add(&|world| world.resolve(Side::Destination));
        }
        worlds
    }

    /// From here on nothing fails and everything arrives: the end that this leads to.
    pub fn settle(&self) -> Self {
        let mut world = self.clone();
        for _ in 0..200 {
            let before = world.clone();
            world.a_recovers();
            world.b_recovers();
            world.work_off();
            for reply in world.a_replies.clone() {
                world.a_reply(reply);
            }
            for reply in world.b_replies.clone() {
                world.b_reply(reply);
            }
            world.work_off();
            world.a_streams();
            for message in world.network.clone() {
                world.a_hears(&message);
                world.b_hears(&message);
                world.work_off();
            }
            if world == before {
                // Nothing moves: time-outs.
                world.b_event(destination::Event::Failed { reason: why() });
                if world.b_never_ran {
                    world.b_event(destination::Event::NeverRan { reason: why() });
                }
                world.b_event(destination::Event::RelayEnded);
                world.a_event(source::Event::Failed { reason: why() });
                world.work_off();
                world.a_event(source::Event::Overdue {
                    reachable: !world.b_dead,
                });
            }
            if world == before {
                return world;
            }
        }
        panic!("never comes to rest: {world:#?}");
    }

    fn work_off(&mut self) {
        while !self.a_todo.is_empty() {
            self.a_works();
        }
        while !self.b_todo.is_empty() {
            self.b_works();
        }
    }

    /// A person who tells the truth may decide so.
    fn may_resolve(&self, side: Side) -> bool {
        let lost = self.b_disk.contains(&destination::Step::Lost);
        match side {
            Side::Source => self.b_dead || (lost && self.b_shim == There::Nothing),
            Side::Destination => self.b_disk.contains(&destination::Step::Running),
        }
    }

    fn resolve(&mut self, side: Side) {
        let before = self.a.clone();
        self.a_event(source::Event::Resolved(side));
        self.resolved |= self.a != before;
    }

    fn a_event(&mut self, event: source::Event) {
        if self.a_todo.is_empty()
            && let Some(a) = &mut self.a
        {
            match a.on(event) {
                Ok(actions) => self.a_todo.extend(actions),
                Err(_refused) => {}
            }
        }
    }

    fn b_event(&mut self, event: destination::Event) {
        if self.b_todo.is_empty()
            && let Some(b) = &mut self.b
        {
            self.b_todo.extend(b.on(event));
        }
    }

    fn b_pod_gone(&mut self) {
        if self.b.is_some() && self.b_todo.is_empty() {
            self.b_shim = There::Nothing;
            self.b_event(destination::Event::PodGone);
        }
    }

    fn a_crashes(&mut self) {
        self.a = None;
        self.a_todo.clear();
        self.a_replies.clear();
    }

    fn b_crashes(&mut self) {
        self.b = None;
        self.b_todo.clear();
        self.b_replies.clear();
    }

    fn b_dies(&mut self) {
        self.b_crashes();
        self.b_dead = true;
        self.b_shim = There::Nothing;
    }

    /// Its shim is killed before it lets the processes go.
    fn b_shim_dies_stopped(&mut self) {
        if self.b_shim == There::Stopped {
            self.b_shim = There::Nothing;
            self.b_replies.clear();
            self.b_never_ran = true;
        }
    }

    fn a_recovers(&mut self) {
        if self.a.is_none()
            && let Some((a, todo)) = Source::recover(&self.a_disk, self.policy)
        {
            self.a = Some(a);
            self.a_todo = todo.into();
        }
    }

    fn b_recovers(&mut self) {
        if self.b.is_none()
            && !self.b_dead
            && let Some((b, todo)) = Destination::recover(&self.b_disk)
        {
            self.b = Some(b);
            self.b_todo = todo.into();
        }
    }

    /// The whole final round was sent.
    fn a_streams(&mut self) {
        let frozen = |a: &Source| *a.state() == source::State::Frozen;
        if self.a_todo.is_empty() && self.a.as_ref().is_some_and(frozen) {
            self.network.insert(Message::Final);
        }
    }

    fn a_works(&mut self) {
        use source::{Action, State};
        match self.a_todo.pop_front() {
            None => {}
            Some(Action::Record(step)) => self.a_disk.push(step),
            Some(Action::Freeze) => {
                if self.a_shim == Here::Running {
                    self.a_shim = Here::Frozen;
                }
                self.a_replies.insert(FROZEN);
            }
            Some(Action::Resume) => {
                assert_ne!(self.a_shim, Here::Discarded, "thaw of a discarded pod");
                self.a_shim = Here::Running;
                self.a_replies.insert(RESUMED);
            }
            Some(Action::Discard) => {
                self.a_shim = Here::Discarded;
                self.a_replies.insert(DISCARDED);
            }
            Some(Action::Ask) => self.send(Message::Ask),
            Some(Action::AcceptOffer) => self.send(Message::OfferAccepted),
            Some(Action::RefuseOffer) => self.send(Message::OfferRefused),
            Some(Action::AcknowledgeConclude) => match self.a.as_ref().map(Source::state) {
                Some(source::State::Discarding | source::State::Done) => {
                    self.send(Message::RunningAcknowledged);
                }
                _ => self.send(Message::AbortAcknowledged),
            },
            Some(Action::RefuseConclude) => {
                let state = self.a.as_ref().map(Source::state);
                if let Some(State::RollingBack { .. } | State::RolledBack { .. }) = state {
                    self.send(Message::Overruled);
                }
            }
        }
    }

    fn b_works(&mut self) {
        use destination::Action;
        match self.b_todo.pop_front() {
            Some(Action::Record(step)) => self.b_disk.push(step),
            Some(Action::Open) => self.send(Message::Open),
            Some(Action::Freeze) => self.send(Message::Freeze),
            Some(Action::Offer) => self.send(Message::Offer),
            Some(Action::Restore) => {
                if !self.b_never_ran {
                    self.b_shim = There::Stopped;
                    self.b_replies.insert(RESTORED);
                }
            }
            Some(Action::Run) => {
                // A pod that is gone cannot be let go: the shim does not answer.
                let alive = self.b_shim != There::Nothing;
                if alive {
                    self.b_shim = There::Running;
                    self.b_replies.insert(RAN);
                }
            }
            Some(Action::Undo) => {
                self.b_shim = There::Nothing;
                self.b_replies.insert(UNDONE);
            }
            Some(Action::TellRunning) => self.send(Message::TellRunning),
            Some(Action::TellAborted) => self.send(Message::TellAborted),
            Some(Action::Relay | Action::DropRoute) | None => {}
            Some(Action::Reply(verdict)) => self.send(match verdict {
                Verdict::Undecided => Message::Undecided,
                Verdict::Running => Message::Running,
                Verdict::Aborted { .. } => Message::Aborted,
            }),
        }
    }

    fn a_hears(&mut self, message: &Message) {
        use source::Event;
        let aborted = || Verdict::Aborted { reason: why() };
        if !self.a_todo.is_empty() {
            return;
        }
        if self.a.is_none() {
            match message {
                Message::Open if self.a_disk.is_empty() => {
                    let (a, todo) = Source::open(self.policy);
                    self.a = Some(a);
                    self.a_todo = todo.into();
                }
                // A migration that the source never recorded: there is nothing to undo.
                Message::Offer if self.a_disk.is_empty() => self.send(Message::OfferRefused),
                Message::TellAborted if self.a_disk.is_empty() => {
                    self.send(Message::AbortAcknowledged);
                }
                _ => {}
            }
            return;
        }
        match message {
            Message::Open => self.send(Message::Opened),
            Message::Freeze => self.a_event(Event::FreezeAsked),
            Message::Offer => self.a_event(Event::OfferReceived { matches: true }),
            Message::TellRunning => self.a_event(Event::ConcludeReceived(Verdict::Running)),
            Message::TellAborted => self.a_event(Event::ConcludeReceived(aborted())),
            Message::Undecided => self.a_event(Event::Answered(Verdict::Undecided)),
            Message::Running => self.a_event(Event::Answered(Verdict::Running)),
            Message::Aborted => self.a_event(Event::Answered(aborted())),
            _ => {}
        }
    }

    fn b_hears(&mut self, message: &Message) {
        use destination::Event;
        if !self.b_todo.is_empty() || self.b_dead {
            return;
        }
        if self.b.is_none() {
            if *message == Message::Ask && self.b_disk.is_empty() {
                let (b, todo) = Destination::unknown();
                self.b = Some(b);
                self.b_todo = todo.into();
            }
            return;
        }
        let failed = || Event::Failed { reason: why() };
        match message {
            Message::Opened => self.b_event(Event::FreezeStarted),
            Message::Final => self.b_event(Event::Verified),
            Message::OfferRefused => self.b_event(failed()),
            Message::OfferAccepted => self.b_event(Event::OfferAccepted),
            Message::RunningAcknowledged => self.b_event(Event::RunningAcknowledged),
            Message::AbortAcknowledged => self.b_event(Event::AbortAcknowledged),
            Message::Overruled => self.b_event(Event::Overruled),
            Message::Ask => self.b_event(Event::Asked),
            _ => {}
        }
    }

    fn a_reply(&mut self, reply: u8) {
        use source::Event;
        if self.a_todo.is_empty() && self.a_replies.remove(&reply) {
            self.a_event(match reply {
                FROZEN => Event::Frozen,
                RESUMED => Event::Resumed,
                _ => Event::Discarded,
            });
        }
    }

    fn b_reply(&mut self, reply: u8) {
        use destination::Event;
        if self.b_todo.is_empty() && self.b_replies.remove(&reply) {
            self.b_event(match reply {
                RESTORED => Event::Restored,
                RAN => Event::Ran,
                _ => Event::Undone,
            });
        }
    }

    fn send(&mut self, message: Message) {
        self.network.insert(message);
    }
}

fn why() -> String {
    "why".to_owned()
}

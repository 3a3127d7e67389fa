//! What a migration shows of itself: to `watch`, to kubelet's events, to the report.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Which side of a migration this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The pod leaves this node.
    Source,
    /// The pod arrives on this node.
    Destination,
}

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The two nodes agree on what moves.
    Opening,
    /// Rounds of the trees while the pod runs.
    Copying,
    /// Everything that can be sent early was; waits for the pod's last container to start.
    Ready,
    /// No process of the pod runs anywhere; the final round.
    Freezing,
    /// The image is put into processes on the destination.
    Restoring,
    /// The source has offered, the destination has not decided.
    Deciding,
    /// The pod runs on the destination; old connections are relayed.
    Relaying,
    /// The pod runs on the destination, nothing is left to do.
    Completed,
    /// The pod goes on on the source.
    RolledBack,
    /// The two sides cannot agree without each other, or without a person: see `resolve`.
    Held,
    /// The pod is an image on this node, which another pod can take over.
    Parked,
    /// Ended with an error before anything was touched.
    Failed,
}

impl Phase {
    /// Nothing changes any more.
    pub fn ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::RolledBack | Self::Parked | Self::Failed
        )
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Copying => "copying",
            Self::Ready => "ready",
            Self::Freezing => "freezing",
            Self::Restoring => "restoring",
            Self::Deciding => "deciding",
            Self::Relaying => "running, relaying old connections",
            Self::Completed => "completed",
            Self::RolledBack => "rolled back",
            Self::Held => "held",
            Self::Parked => "parked",
            Self::Failed => "failed",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `CLOCK_REALTIME` on the node that recorded it, nanoseconds since 1970.
    pub at_ns: u64,
    /// A short stable name: `open`, `round`, `frozen`, `dumped`, `restored`, `run`, `route`, ...
    pub name: String,
    /// For people; may be empty.
    #[serde(default)]
    pub detail: String,
}

/// A migration as one node sees it. Written as `timeline.json` beside the migration's logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The migration's id.
    pub id: String,
    /// This node's part.
    pub side: Side,
    /// Kubernetes namespace of the pod.
    pub namespace: String,
    /// Name of the pod here.
    pub pod: String,
    /// Sandbox id of the pod here.
    pub sandbox: String,
    /// Name of the other node, as its certificate says.
    pub peer: String,
    /// `host:port` of the other node.
    pub peer_endpoint: String,
    /// How far it is.
    pub phase: Phase,
    /// The newest words about it: what it waits for, or why it failed.
    pub message: String,
    /// Pre-copy rounds begun so far; 0 before the first.
    pub round: u32,
    /// Bytes of this round expected before compression; 0 when unknown.
    pub round_total: u64,
    /// Bytes of this round done, before compression.
    pub round_done: u64,
    /// Bytes on the wire, all rounds.
    pub bytes_sent: u64,
    /// Bytes before compression, all rounds.
    pub bytes_raw: u64,
    /// Bytes per second on the wire, recent.
    pub rate: u64,
    /// What the freeze would take now, milliseconds; nothing before the first round ended.
    pub estimated_freeze_ms: Option<u64>,
    /// What the freeze took: from the last process stopped on the source to run here.
    pub freeze_ms: Option<u64>,
    /// When it began, nanoseconds since 1970.
    pub started_ns: u64,
    /// When it changed last.
    pub updated_ns: u64,
    /// What happened, in order.
    pub events: Vec<Event>,
}

impl Progress {
    /// A migration that begins now.
    pub fn new(id: &str, side: Side) -> Self {
        let now = now_ns();
        Self {
            id: id.to_owned(),
            side,
            namespace: String::new(),
            pod: String::new(),
            sandbox: String::new(),
            peer: String::new(),
            peer_endpoint: String::new(),
            phase: Phase::Opening,
            message: String::new(),
            round: 0,
            round_total: 0,
            round_done: 0,
            bytes_sent: 0,
            bytes_raw: 0,
            rate: 0,
            estimated_freeze_ms: None,
            freeze_ms: None,
            started_ns: now,
            updated_ns: now,
            events: Vec::new(),
        }
    }

    /// Part of the present round that is done, 0 to 100.
    pub fn percent(&self) -> u8 {
        if self.phase.ended() || self.phase == Phase::Relaying {
            return 100;
        }
        if self.round_total == 0 {
            return 0;
        }
        let part = self.round_done.min(self.round_total) as f64 / self.round_total as f64;
        (part * 100.0) as u8
    }

    /// One line for kubelet's event while Start waits:
    /// `migrating from node-a: copying, round 1, 43 %, about 12 s left`.
    pub fn line(&self) -> String {
        use std::fmt::Write as _;
        let direction = match self.side {
            Side::Source => "to",
            Side::Destination => "from",
        };
        let peer = if self.peer.is_empty() {
            &self.peer_endpoint
        } else {
            &self.peer
        };
        let mut line = format!("migrating {direction} {peer}: {}", self.phase.words());
        if self.round > 0 && !self.phase.ended() {
            let _ = write!(line, ", round {}", self.round);
        }
        if self.round_total > 0 && !self.phase.ended() {
            let _ = write!(line, ", {} %", self.percent());
            let left = self.round_total.saturating_sub(self.round_done);
            if let Some(seconds) = left.checked_div(self.rate)
                && seconds > 0
            {
                let _ = write!(line, ", about {seconds} s left");
            }
        }
        if !self.message.is_empty() {
            let _ = write!(line, ": {}", self.message);
        }
        line
    }
}

/// `CLOCK_REALTIME`, nanoseconds since 1970.
pub fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

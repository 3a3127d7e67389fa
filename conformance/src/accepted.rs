//! Differences that may be, each with its reason. What is not here fails the run.

use crate::compare::{Difference, Kind};

mod events;

/// A difference that may be.
#[derive(Debug)]
pub struct Accepted {
    /// What differs.
    pub what: &'static str,
    /// Why it may.
    pub why: &'static str,
    /// Is it this one, or is this one part of it?
    holds: fn(&Difference) -> bool,
}

/// Differences between answers, states, events and output of the Task API.
pub static CALLS: &[Accepted] = &[
    Accepted {
        what: "`/tasks/checkpointed`: runc.v2 sends none",
        why: "containerd's description of shims says that a shim should.",
        holds: |d| d.kind == Kind::Events && events::checkpoints_are_told(d),
    },
    Accepted {
        what: "The last events of a task (`/tasks/delete`, `/tasks/exit` of an init that was deleted without \
               having been started): runc.v2 loses them, sends them in any order, or without the time of the exit",
        why: "runc.v2's shim ends while its events are still queued. Ours sends all: exit with its time, then \
              delete.",
        holds: |d| d.kind == Kind::Events && events::ends_are_whole(d),
    },
    Accepted {
        what: "Start of an exec whose container has ended: runc.v2 answers Unknown or FailedPrecondition, \
               ours always FailedPrecondition",
        why: "runc.v2 does not note the end of an init that ends while its start is still being answered, \
              and then passes runc's message on.",
        holds: |d| {
            d.kind == Kind::Answer
                && d.step.starts_with("start e")
                && d.before.contains("init ended")
                && d.reference == "Unknown"
                && d.ours == "FailedPrecondition"
        },
    },
    Accepted {
        what: "Pids of a task that a checkpoint ended: runc.v2 fails (Unknown), ours answers with none",
        why: "runc has forgotten the container, and runc.v2 passes its message on. There are no pids.",
        holds: |d| {
            d.kind == Kind::Answer
                && d.step == "pids"
                && d.messages[0].contains("container does not exist")
                && d.ours == "ok"
        },
    },
    Accepted {
        what: "Checkpoint to a directory, with containerd 1.7: beside it containerd makes an image, without memory",
        why: "containerd 1.7 knows by runc.v2's name that the shim writes to the directory. The directory is the \
              same under both.",
        holds: |d| {
            d.kind == Kind::Answer
                && d.step.starts_with("checkpoint")
                && d.reference == "ok 0 descriptors, image true"
                && d.ours == "ok 2 descriptors, image true"
        },
    },
    Accepted {
        what: "Another checkpoint of the container to a directory, with containerd 1.7: AlreadyExists, after it \
               was made",
        why: "For its image containerd 1.7 stores the container's spec again, and fails. So it does under \
              runc.v2 for checkpoints without a directory.",
        holds: |d| {
            d.kind == Kind::Answer
                && d.step.starts_with("checkpoint")
                && d.reference == "ok 0 descriptors, image true"
                && d.ours == "AlreadyExists"
                && d.messages[1].starts_with("content sha256:")
        },
    },
];

/// A fact of a life cycle that may differ.
#[derive(Debug)]
pub struct AcceptedFact {
    /// The life cycle.
    pub life: &'static str,
    /// The fact.
    pub fact: &'static str,
    /// What differs.
    pub what: &'static str,
    /// Why it may.
    pub why: &'static str,
}

/// Differences between life cycles.
pub static FACTS: &[AcceptedFact] = &[AcceptedFact {
    life: "shim_killed",
    fact: "processes of the dead shim that run on",
    what: "CRI, shim killed: the pod's other containers run on under runc.v2",
    why: "containerd cleans up after the sandbox only. Processes that nobody knows of would go on beside \
          the ones that kubelet starts in their place; a pod must never run twice, so ours are ended.",
}];

/// A call that scripts come to and that is not made, because one of the runtimes does not survive it or
/// answers differently from time to time.
#[derive(Debug, PartialEq, Eq)]
pub struct NotCalled {
    /// The call.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
}

/// See what it says.
pub static START_AGAIN: NotCalled = NotCalled {
    what: "A second Start of an exec whose first one failed",
    why: "runc.v2's shim closes a channel twice and dies, with all containers of the pod.",
};
/// See what it says.
pub static START_OF_RUNNING: NotCalled = NotCalled {
    what: "Start of an exec that runs",
    why: "runc.v2 counts it twice; at the end of init the count is below zero and the shim dies.",
};
/// See what it says.
pub static CLOSE_TERMINAL: NotCalled = NotCalled {
    what: "CloseIO of a process with a terminal",
    why: "runc.v2 closes the terminal when its input ends, and the process gets SIGHUP. Ours leaves it open, \
          with what it still shows. CRI closes the input of no terminal.",
};
/// See what it says.
pub static CLOSE_EARLY: NotCalled = NotCalled {
    what: "CloseIO of an exec before its Start",
    why: "runc.v2 forgets it, and the exec never sees the end of its input; ours ends the input at Start. \
          Clients do send it early.",
};

/// Calls that scripts do not make.
pub static NOT_CALLED: [&NotCalled; 4] = [
    &START_AGAIN,
    &START_OF_RUNNING,
    &CLOSE_TERMINAL,
    &CLOSE_EARLY,
];

/// Why a difference may be: all that it consists of. Empty if it may not.
pub fn find(difference: &Difference) -> Vec<&'static Accepted> {
    if difference.kind == Kind::Events && !events::may_differ(difference) {
        return Vec::new();
    }
    let all = CALLS.iter();
    all.filter(|accepted| (accepted.holds)(difference))
        .collect()
}

/// Why a fact of a life cycle may differ, if it may.
pub fn fact(life: &str, fact: &str) -> Option<&'static AcceptedFact> {
    let mut all = FACTS.iter();
    all.find(|accepted| accepted.life == life && accepted.fact == fact)
}

#[cfg(test)]
mod tests;

//! Differences that may be, each with its reason. What is not here fails the run.

use std::collections::BTreeMap;

use crate::compare::{Difference, Kind};

/// A difference that may be.
#[derive(Debug)]
pub struct Accepted {
    /// What differs.
    pub what: &'static str,
    /// Why it may.
    pub why: &'static str,
    /// Is it this one?
    holds: fn(&Difference) -> bool,
}

/// Differences between answers, states, events and output of the Task API.
pub static CALLS: &[Accepted] = &[
    Accepted {
        what: "`/tasks/checkpointed`: runc.v2 sends none",
        why: "containerd's description of shims says that a shim should.",
        holds: |d| {
            d.kind == Kind::Events && d.ours.contains("/tasks/checkpointed") && same_events(d)
        },
    },
    Accepted {
        what: "The last events of a task (`/tasks/delete`, `/tasks/exit` of an init that was deleted without \
               having been started): runc.v2 loses them or sends them in any order",
        why: "runc.v2's shim ends while its events are still queued. Ours sends all: exit, then delete.",
        holds: |d| d.kind == Kind::Events && same_events(d),
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
];

/// Equal but for what the table names.
fn same_events(difference: &Difference) -> bool {
    let [r, o] = [&difference.reference, &difference.ours].map(|events| {
        let mut kept = Vec::new();
        let mut started = false;
        for line in events.lines().map(str::trim) {
            let topic = line.split(' ').next().unwrap_or_default();
            match topic {
                "/tasks/create" => started = false,
                "/tasks/start" => started = true,
                _ => {}
            }
            let unused = !started && line.starts_with("/tasks/exit init");
            if !unused && !matches!(topic, "/tasks/checkpointed" | "/tasks/delete") {
                kept.push(line);
            }
        }
        kept
    });
    r == o
}

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

/// Why a difference may be, if it may.
pub fn find(difference: &Difference) -> Option<&'static Accepted> {
    CALLS.iter().find(|accepted| (accepted.holds)(difference))
}

/// Whether a fact of a life cycle may differ; counts it.
pub fn fact(life: &str, fact: &(String, String), seen: &mut BTreeMap<&'static str, usize>) -> bool {
    let accepted = FACTS
        .iter()
        .find(|accepted| accepted.life == life && accepted.fact == fact.0);
    if let Some(accepted) = accepted {
        *seen.entry(accepted.what).or_default() += 1;
    }
    accepted.is_some()
}

/// Calls that the scripts do not make, because one of the runtimes does not survive them or answers
/// differently from time to time.
pub static NOT_CALLED: &[(&str, &str)] = &[
    (
        "a second Start of an exec whose first one failed",
        "runc.v2's shim closes a channel twice and dies, with all containers of the pod.",
    ),
    (
        "Start of an exec that runs",
        "runc.v2 counts it twice; at the end of init the count is below zero and the shim dies.",
    ),
    (
        "CloseIO of a process with a terminal",
        "When the input ends, runc.v2 closes the terminal: the process gets SIGHUP. Ours leaves the \
         terminal open. To be decided.",
    ),
    (
        "CloseIO of an exec before its Start",
        "runc.v2 forgets it, and the exec never sees the end of its input; ours ends the input at Start. \
         Clients do send it early.",
    ),
];

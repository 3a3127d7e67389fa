//! Two traces of one script, side by side.

use std::fmt;

use crate::accepted::{self, Accepted};
use crate::run::Trace;

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer to a call.
    Answer,
    /// A process's state after a call.
    State,
    /// Events, or their order.
    Events,
    /// What a process wrote.
    Output,
}

/// A difference.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Name of the script.
    pub script: String,
    /// What differs.
    pub kind: Kind,
    /// The call, empty for events and output.
    pub step: String,
    /// The situation before the call.
    pub before: String,
    /// What the reference says.
    pub reference: String,
    /// What ours says.
    pub ours: String,
    /// The texts of errors.
    pub messages: [String; 2],
    /// Why it may be: all that it consists of. Empty: it may not.
    pub accepted: Vec<&'static Accepted>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:?} of `{}` ({}):\n  runc.v2   {} {}\n  mycedrive {} {}",
            self.script,
            self.kind,
            self.step,
            self.before,
            self.reference,
            self.messages[0],
            self.ours,
            self.messages[1]
        )
    }
}

/// All differences, up to the first states that part: what comes after may follow from them.
pub fn differences(script: &str, reference: &Trace, ours: &Trace) -> Vec<Difference> {
    let mut found = Vec::new();
    let new = |kind| Difference {
        script: script.to_owned(),
        kind,
        step: String::new(),
        before: String::new(),
        reference: String::new(),
        ours: String::new(),
        messages: [String::new(), String::new()],
        accepted: Vec::new(),
    };
    for (r, o) in reference.records.iter().zip(&ours.records) {
        if r.answer != o.answer {
            found.push(Difference {
                step: r.step.to_string(),
                before: r.before.clone(),
                reference: r.answer.clone(),
                ours: o.answer.clone(),
                messages: [r.message.clone(), o.message.clone()],
                ..new(Kind::Answer)
            });
        }
        if r.after != o.after {
            let only = |a: &[String], b: &[String]| {
                let lines = a.iter().filter(|line| !b.contains(line));
                lines.cloned().collect::<Vec<_>>().join("; ")
            };
            found.push(Difference {
                step: r.step.to_string(),
                before: r.before.clone(),
                reference: only(&r.after, &o.after),
                ours: only(&o.after, &r.after),
                ..new(Kind::State)
            });
        }
        judge(&mut found);
        let parted = found
            .iter()
            .any(|difference| difference.kind == Kind::State && difference.accepted.is_empty());
        if parted {
            return found;
        }
    }
    for (kind, r, o) in [
        (Kind::Events, &reference.all_events(), &ours.all_events()),
        (Kind::Output, &reference.outputs, &ours.outputs),
    ] {
        if r != o {
            found.push(Difference {
                reference: r.join("\n    "),
                ours: o.join("\n    "),
                ..new(kind)
            });
        }
    }
    judge(&mut found);
    found
}

/// Looks up what may be.
fn judge(found: &mut [Difference]) {
    for difference in found.iter_mut() {
        difference.accepted = accepted::find(difference);
    }
}

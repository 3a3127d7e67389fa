//! What was seen of a script.

use crate::accepted::NotCalled;
use crate::api::Event;
use crate::script::Step;

/// One call and what could be seen of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The call.
    pub step: Step,
    /// The situation in which it was made.
    pub before: String,
    /// What it is, if it was not made.
    pub not_called: Option<&'static NotCalled>,
    /// `ok …`, or the name of the error's code.
    pub answer: String,
    /// The error's text, which is not compared.
    pub message: String,
    /// The states after it.
    pub after: Vec<String>,
}

/// All that was seen of a script.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The calls.
    pub records: Vec<Record>,
    /// The container's events, in their order.
    pub events: Vec<String>,
    /// Events of a task that came after the one of its removal.
    pub late: Vec<String>,
    /// What each process wrote.
    pub outputs: Vec<String>,
}

impl Trace {
    /// Events, the late ones at the end.
    pub fn all_events(&self) -> Vec<String> {
        [self.events.clone(), self.late.clone()].concat()
    }
}

/// Texts of events, in their order but for exits of execs and thaws that follow each other directly: what
/// happens together has none. The thaw is put first.
pub fn canonical(
    events: &[Event],
    id: &str,
    label: impl Fn(u32) -> String,
) -> (Vec<String>, Vec<String>) {
    let mut texts: Vec<(bool, String)> = Vec::new();
    let mut late = Vec::new();
    let mut deleted = false;
    for event in events {
        let process = if event.process == id {
            "init"
        } else {
            &event.process
        };
        let pid = match event.pid {
            0 => String::new(),
            pid => format!("pid {}", label(pid)),
        };
        let words = [event.topic.as_str(), process, &pid, &event.detail];
        let text = words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        match event.topic.as_str() {
            "/tasks/delete" => deleted = true,
            "/tasks/create" => deleted = false,
            _ if deleted => {
                late.push(text);
                continue;
            }
            _ => {}
        }
        // Execs that a thaw lets end do so beside what is told of it.
        let beside = event.topic == "/tasks/resumed"
            || (event.topic == "/tasks/exit" && event.process != id);
        texts.push((beside, text));
    }
    for group in texts.chunk_by_mut(|a, b| a.0 && b.0) {
        group.sort_by_key(|(_, text)| (text.starts_with("/tasks/exit"), text.clone()));
    }
    (texts.into_iter().map(|(_, text)| text).collect(), late)
}

#[cfg(test)]
mod tests;

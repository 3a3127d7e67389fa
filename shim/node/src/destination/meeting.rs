//! The rendezvous: kubelet starts a pod's containers one after another, and each Start waits
//! here.

use std::collections::BTreeMap;

use mycedrive_proto::migration::Manifest;
use mycedrive_proto::shim::Container;

/// How far the migration is, as far as waiting containers care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The two nodes agree on what moves.
    #[default]
    Opening,
    /// Rounds while the pod runs on the source.
    Copying,
    /// Only missing containers are waited for.
    Ready,
    /// The source is frozen.
    Freezing,
    /// All containers are here for good: `RUN` may be recorded.
    Committed,
}

/// How the migration ended for this pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The pod runs here.
    Running,
    /// It stays on the source.
    Failed(String),
}

/// A container whose Start was called.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// As the shim describes it.
    pub container: Container,
    /// Its Start was answered with "started"; it runs nothing until the migration ends.
    pub reported: bool,
}

/// What a waiting Start is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It runs.
    Running,
    /// Reported as started; others are waited for.
    Waiting,
    /// It had ended on the source with this code.
    Exited(u32),
    /// Refused, or the migration failed.
    Refused(String),
}

/// Who is here, who is expected.
#[derive(Debug, Clone, Default)]
pub struct Meeting {
    stage: Stage,
    here: BTreeMap<String, Arrival>,
    /// Name to exit code of those that ended on the source; `None` for those that run.
    expected: BTreeMap<String, Option<u32>>,
    outcome: Option<Outcome>,
}

impl Meeting {
    /// A container's Start was called. A new attempt of the same name takes the old one's place.
    pub fn arrive(&mut self, container: Container) {
        let name = container.name.clone();
        let reported = false;
        self.here.insert(
            name,
            Arrival {
                container,
                reported,
            },
        );
    }

    /// Takes over from an attempt that failed whose Start was answered with "started": kubelet does
    /// not call it again, and the containers wait still.
    pub fn take_over(&mut self, before: &Self) {
        for (name, arrival) in &before.here {
            if arrival.reported && !self.here.contains_key(name) {
                self.here.insert(name.clone(), arrival.clone());
            }
        }
    }

    /// The source's manifest is known.
    pub fn expect(&mut self, manifest: &Manifest) {
        self.expected = manifest
            .containers
            .iter()
            .map(|one| (one.name.clone(), one.exited.then_some(one.exit_code)))
            .collect();
    }

    /// Goes on to a later stage.
    pub fn advance(&mut self, stage: Stage) {
        self.stage = self.stage.max(stage);
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Names of running containers that are not here.
    pub fn missing(&self) -> Vec<String> {
        self.expected
            .iter()
            .filter(|(name, exited)| exited.is_none() && !self.here.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Every container that runs on the source is here.
    pub fn complete(&self) -> bool {
        !self.expected.is_empty() && self.missing().is_empty()
    }

    /// All that are here, by name.
    pub fn here(&self) -> &BTreeMap<String, Arrival> {
        &self.here
    }

    /// Names of those that run on the source.
    pub fn running(&self) -> Vec<String> {
        self.expected
            .iter()
            .filter(|(_, exited)| exited.is_none())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// From here on no Start is told to try again. False when somebody is missing.
    pub fn commit(&mut self) -> bool {
        if self.complete() && self.outcome.is_none() {
            self.stage = Stage::Committed;
        }
        self.stage == Stage::Committed
    }

    /// The end.
    pub fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// What the container's Start is answered now; `None`: it goes on waiting.
    pub fn answer(&mut self, name: &str) -> Option<Answer> {
        if let Some(Some(code)) = self.expected.get(name) {
            let code = *code;
            self.here.remove(name);
            return Some(Answer::Exited(code));
        }
        match &self.outcome {
            Some(Outcome::Running) => return Some(Answer::Running),
            Some(Outcome::Failed(reason)) => return Some(Answer::Refused(reason.clone())),
            None => {}
        }
        if self.stage == Stage::Ready && !self.complete() {
            let arrival = self.here.get_mut(name)?;
            arrival.reported = true;
            return Some(Answer::Waiting);
        }
        None
    }

    /// The Start's time is over: it will be tried again with a new container. False when the
    /// decision is being taken and it has to wait for it.
    pub fn give_up(&mut self, name: &str, id: &str) -> bool {
        if self.stage == Stage::Committed {
            return false;
        }
        self.remove(name, id);
        true
    }

    /// A container is killed or deleted. Returns its name when that was one that counted.
    pub fn leave(&mut self, id: &str) -> Option<String> {
        let name = self
            .here
            .iter()
            .find(|(_, arrival)| arrival.container.id == id)
            .map(|(name, _)| name.clone())?;
        self.here.remove(&name);
        Some(name)
    }

    fn remove(&mut self, name: &str, id: &str) {
        if self
            .here
            .get(name)
            .is_some_and(|arrival| arrival.container.id == id)
        {
            self.here.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;

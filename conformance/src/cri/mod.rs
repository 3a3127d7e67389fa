//! Life cycles as kubelet drives them, under both handlers.
//!
//! Each life cycle checks what a pod's user relies on, and writes down facts; the facts must be the
//! same under both handlers.

mod containers;
mod deletion;
mod exec;
mod failures;
mod kube;
mod logs;
mod modes;
mod resources;
mod stream;
mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libtest_mimic::Trial;
use mycedrive_integration::workload::leftovers;
use mycedrive_integration::{Containerd, Testbed};

use crate::accepted;
use crate::report::{Outcome, Report};
use crate::world::World;
pub use kube::{Facts, Kube};

/// The handlers, the reference first.
pub const HANDLERS: [&str; 2] = ["runc", "mycedrive"];

/// The reason for which a life cycle cannot be tried here.
#[derive(Debug, thiserror::Error)]
#[error("skipped: {0}")]
pub struct Skip(pub String);

type Body = fn(&mut Kube, &mut Facts) -> Result<()>;

/// A life cycle.
pub struct LifeCycle {
    /// Name of the test.
    pub name: &'static str,
    /// What the document says of it.
    pub text: &'static str,
    /// Part of the short run.
    pub short: bool,
    body: Body,
}

const fn life(name: &'static str, text: &'static str, body: Body) -> LifeCycle {
    LifeCycle {
        name,
        text,
        short: false,
        body,
    }
}

const fn short(name: &'static str, text: &'static str, body: Body) -> LifeCycle {
    LifeCycle {
        name,
        text,
        short: true,
        body,
    }
}

/// All of them, in the order of the document.
pub const ALL: &[LifeCycle] = &[
    short(
        "containers",
        "several containers: shared network and IPC, own logs and ends",
        containers::several,
    ),
    short(
        "init_containers",
        "init containers, one of them failing and tried again",
        containers::init,
    ),
    life(
        "restartable_init",
        "restartable init containers, ended after the main one",
        containers::restartable_init,
    ),
    short(
        "restart_back_off",
        "a container that fails is started again, with back-off",
        containers::back_off,
    ),
    life(
        "start_errors",
        "missing program, missing directory, unknown ids",
        containers::start_errors,
    ),
    short("exec", "exec: output, codes, many at once", exec::exec),
    short(
        "exec_probe",
        "exec probes: success, failure, time-out, ended container",
        exec::probe,
    ),
    life(
        "exec_stream",
        "exec with standard input and with a terminal, over WebSocket",
        streams::exec,
    ),
    life(
        "attach",
        "attach, detach and attach again, with standard input",
        streams::attach,
    ),
    life("port_forward", "port-forward", streams::port_forward),
    short(
        "log_rotation",
        "logs and their rotation (ReopenContainerLog): no line lost",
        logs::rotation,
    ),
    life("stats", "statistics of container and pod", resources::stats),
    short(
        "update_resources",
        "update of resources, also with impossible values",
        resources::update,
    ),
    life(
        "out_of_memory",
        "memory limit: OOMKilled, then started again",
        resources::out_of_memory,
    ),
    short(
        "graceful_deletion",
        "deletion with a grace period that is used, and one that is not enough",
        deletion::graceful,
    ),
    short(
        "forced_deletion",
        "deletion without a grace period, and of a pod that runs",
        deletion::forced,
    ),
    life(
        "deletion_again",
        "stop and remove are done twice, in any state",
        deletion::again,
    ),
    life(
        "many_pods",
        "50 pods started and stopped concurrently",
        deletion::many,
    ),
    short(
        "pid_modes",
        "pid namespaces: own, the pod's, the node's, another container's",
        modes::pids,
    ),
    life(
        "cgroup_parent",
        "control groups below kubelet's parent",
        modes::cgroups,
    ),
    life("privileged", "privileged containers", modes::privileged),
    life(
        "user_namespaces",
        "user namespaces (hostUsers: false)",
        modes::users,
    ),
    life(
        "host_namespaces",
        "the node's network, IPC and pid namespaces",
        modes::host,
    ),
    life(
        "containerd_restart",
        "containerd stopped, killed and started again",
        failures::containerd,
    ),
    life(
        "shim_killed",
        "shim killed: reported, removed, started again",
        failures::shim,
    ),
    life(
        "reboot",
        "node loses power: state gone, pods removed and started again",
        failures::reboot,
    ),
];

/// The tests.
pub fn trials(world: &Arc<World>, containerd: Containerd, all: bool) -> Vec<Trial> {
    ALL.iter()
        .filter(|life| all || life.short)
        .map(|life| {
            world.trial(
                containerd,
                &format!("cri::{}", life.name),
                Box::new(move |testbed, report| both(testbed, report, life)),
            )
        })
        .collect()
}

fn both(testbed: &mut Testbed, report: &mut Report, life: &LifeCycle) -> Result<()> {
    let mut facts = Vec::new();
    let mut failure = None;
    for handler in HANDLERS {
        let (seen, outcome) = one(testbed, life, handler);
        if let Err(error) = &outcome
            && let Some(skip) = error.downcast_ref::<Skip>()
        {
            for handler in HANDLERS {
                report.life(life.name, handler, Outcome::Skipped(skip.0.clone()));
            }
            return outcome;
        }
        report.life(life.name, handler, Outcome::of(&outcome));
        let outcome = outcome.with_context(|| format!("under {handler}"));
        failure = failure.or(outcome.err());
        facts.push(seen);
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let mut accepted = BTreeSet::new();
    let mut wrong = Vec::new();
    for (handler, own, others) in [
        (HANDLERS[0], &facts[0], &facts[1]),
        (HANDLERS[1], &facts[1], &facts[0]),
    ] {
        for fact in own.iter().filter(|fact| !others.contains(fact)) {
            match accepted::fact(life.name, &fact.0) {
                Some(one) => drop(accepted.insert(one.what)),
                None => wrong.push(format!("{} under {handler}: {}", fact.0, fact.1)),
            }
        }
    }
    // Each once for a life cycle: it has two sides.
    for what in accepted {
        report.see(what);
    }
    if !wrong.is_empty() {
        let outcome = Err(anyhow!("facts differ: {}", wrong.join("; ")));
        report.life(life.name, HANDLERS[1], Outcome::of(&outcome));
        return outcome;
    }
    Ok(())
}

fn one(
    testbed: &mut Testbed,
    life: &LifeCycle,
    handler: &'static str,
) -> (Vec<(String, String)>, Result<()>) {
    let mut facts = Facts::default();
    let outcome = (|| {
        let node = testbed.node("a")?.clone();
        node.remove_all_pods()?;
        let before = leftovers::of(&node)?;
        let done = (life.body)(&mut Kube::new(testbed, handler)?, &mut facts);
        done?;
        // A reboot makes another node.
        let node = testbed.node("a")?.clone();
        node.wait_ready()?;
        node.remove_all_pods()?;
        if life.name != "reboot" {
            let left = leftovers::since(&node, &before)?;
            ensure!(left.is_empty(), "left behind: {left:?}");
        }
        Ok(())
    })();
    (facts.all, outcome)
}

/// A call was to fail; answers with its code.
fn code<T: std::fmt::Debug>(result: mycedrive_integration::Result<T>) -> Result<String> {
    match result {
        Ok(value) => bail!("was expected to fail and answered {value:?}"),
        Err(error) => match error.cri_status() {
            Some(status) => Ok(format!("{:?}", status.code())),
            None => Err(error.into()),
        },
    }
}

/// A call's code, whether it failed or not.
fn code_or_ok<T>(result: mycedrive_integration::Result<T>) -> Result<String> {
    match result {
        Ok(_) => Ok("Ok".to_owned()),
        Err(error) => match error.cri_status() {
            Some(status) => Ok(format!("{:?}", status.code())),
            None => Err(error.into()),
        },
    }
}

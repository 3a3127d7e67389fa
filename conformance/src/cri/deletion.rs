//! The ends of pods.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use mycedrive_integration::Container;

use super::kube::{Sandbox, soon};
use super::{Facts, Kube, code_or_ok};

const LONG: Duration = Duration::from_secs(60);

pub fn graceful(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("graceful")?;
    let polite = kube.script(
        &pod,
        "polite",
        "trap 'sleep 0.3; echo ended; exit 7' TERM; echo started; while :; do sleep 0.05; done",
    )?;
    let deaf = kube.script(
        &pod,
        "deaf",
        "trap '' TERM; echo started; while :; do sleep 0.05; done",
    )?;
    soon("both", || {
        Ok(kube.log(&pod, "polite")? == "started" && kube.log(&pod, "deaf")? == "started")
    })?;
    let begin = Instant::now();
    kube.cri.stop_container(&polite, LONG)?;
    ensure!(begin.elapsed() < LONG, "SIGTERM was not enough");
    let status = kube.ended(&polite)?;
    facts.add("polite", format!("{} {}", status.exit_code, status.reason));
    facts.add(
        "polite's log",
        kube.log(&pod, "polite")?.replace('\n', ", "),
    );
    let begin = Instant::now();
    kube.cri.stop_container(&deaf, Duration::from_secs(1))?;
    ensure!(
        begin.elapsed() >= Duration::from_secs(1),
        "killed before its time"
    );
    let status = kube.ended(&deaf)?;
    facts.add("deaf", format!("{} {}", status.exit_code, status.reason));
    facts.add(
        "stop of an ended one",
        code_or_ok(kube.cri.stop_container(&deaf, LONG))?,
    );
    kube.remove(&pod)?;
    facts.add("sandboxes", kube.cri.list_pod_sandbox()?.len());
    Ok(())
}

pub fn forced(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("forced")?;
    let deaf = kube.script(
        &pod,
        "deaf",
        "trap '' TERM; echo started; while :; do sleep 0.05; done",
    )?;
    let other = kube.script(&pod, "other", "sleep 1000000")?;
    let created = kube.create(&pod, &Container::new("created", "busybox", &[]), 0)?;
    kube.cri.stop_container(&deaf, Duration::ZERO)?;
    let status = kube.ended(&deaf)?;
    facts.add(
        "no grace",
        format!("{} {}", status.exit_code, status.reason),
    );
    // Removal by force of what runs and of what was never started.
    facts.add(
        "remove of a running one",
        code_or_ok(kube.cri.remove_container(&other))?,
    );
    facts.add(
        "remove of a created one",
        code_or_ok(kube.cri.remove_container(&created))?,
    );
    facts.add("containers", kube.cri.list_containers()?.len());
    let third = kube.script(&pod, "third", "sleep 1000000")?;
    // The sandbox with a running container in it.
    kube.cri.stop_pod_sandbox(&pod.id)?;
    facts.add("ended with its sandbox", kube.ended(&third)?.exit_code);
    facts.add(
        "remove of the sandbox",
        code_or_ok(kube.cri.remove_pod_sandbox(&pod.id))?,
    );
    facts.add("sandboxes", kube.cri.list_pod_sandbox()?.len());
    Ok(())
}

pub fn again(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("again")?;
    let id = kube.script(&pod, "main", "sleep 1000000")?;
    for round in 0..2 {
        facts.add(
            format!("stop container {round}"),
            code_or_ok(kube.cri.stop_container(&id, Duration::ZERO))?,
        );
    }
    for round in 0..2 {
        facts.add(
            format!("remove container {round}"),
            code_or_ok(kube.cri.remove_container(&id))?,
        );
    }
    for round in 0..2 {
        facts.add(
            format!("stop sandbox {round}"),
            code_or_ok(kube.cri.stop_pod_sandbox(&pod.id))?,
        );
    }
    facts.add(
        "create in a stopped sandbox",
        match kube.create(&pod, &Container::new("late", "busybox", &[]), 0) {
            Ok(_) => "Ok",
            Err(_) => "refused",
        },
    );
    for round in 0..2 {
        facts.add(
            format!("remove sandbox {round}"),
            code_or_ok(kube.cri.remove_pod_sandbox(&pod.id))?,
        );
    }
    // Removal of a sandbox that runs.
    let pod = kube.sandbox("again")?;
    kube.script(&pod, "main", "sleep 1000000")?;
    facts.add(
        "remove a running sandbox",
        code_or_ok(kube.cri.remove_pod_sandbox(&pod.id))?,
    );
    Ok(())
}

/// How many pods, and how many at once: kubelet works at each pod by itself.
const PODS: usize = 50;

pub fn many(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let kube: &Kube = kube;
    let pods = all(PODS, |number| {
        let pod = kube.sandbox(&format!("many-{number}"))?;
        let id = kube.script(&pod, "main", &format!("echo {number}; sleep 1000000"))?;
        Ok((pod, id, number))
    })?;
    let running = kube
        .node
        .sh("ps -e -o args= | grep -c '[c]ontainerd-shim'")?;
    facts.add("shims", running);
    for (pod, id, number) in &pods {
        ensure!(kube.running(id)?, "pod {number} does not run");
        soon("the log", || {
            Ok(kube.log(pod, "main")? == number.to_string())
        })?;
    }
    let pods: Vec<(Sandbox, String)> = pods.into_iter().map(|(pod, id, _)| (pod, id)).collect();
    all(PODS, |number| {
        let (pod, id) = &pods[number];
        kube.cri.stop_container(id, Duration::ZERO)?;
        let code = kube.ended(id)?.exit_code;
        ensure!(code == 137, "pod {number} ended with {code}");
        // As kubelet, tries again what takes too long on a machine with too much to do.
        soon("its removal", || Ok(kube.remove(pod).is_ok()))
    })?;
    facts.add("sandboxes", kube.cri.list_pod_sandbox()?.len());
    soon("the end of all shims", || {
        Ok(kube
            .node
            .sh("ps -e -o args= | grep -c '[c]ontainerd-shim' || true")?
            == "0")
    })
}

/// Does `what` for all numbers at once.
fn all<T: Send>(count: usize, what: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let what = &what;
        let threads: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || what(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect()
    })
}

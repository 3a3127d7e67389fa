//! Pods with several containers, and containers that kubelet starts again.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_integration::{Container, ContainerState};

use super::kube::soon;
use super::{Facts, Kube, code, code_or_ok};

/// Ends with 0 on SIGTERM and says so.
const ENDS_ON_TERM: &str =
    "trap 'echo ended; kill $!; exit 0' TERM; sleep 1000000 & echo started; wait";
const GRACE: Duration = Duration::from_secs(20);

pub fn several(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("several")?;
    let one = kube.script(
        &pod,
        "one",
        "echo one >/dev/shm/from-one; echo log-one; nc -l -p 4000 -e echo hello",
    )?;
    let two = kube.script(&pod, "two", "echo log-two; sleep 1000000")?;
    let three = kube.script(&pod, "three", "echo log-three; exit 5")?;
    facts.add("exit code of three", kube.ended(&three)?.exit_code);
    soon("the listener", || {
        let script = "nc 127.0.0.1 4000 </dev/null | grep hello";
        Ok(kube.cri.exec_sync(&two, &["sh", "-c", script], GRACE)?.code == 0)
    })?;
    facts.add(
        "shared memory",
        kube.exec(&two, &["cat", "/dev/shm/from-one"])?,
    );
    facts.add("host name", kube.exec(&two, &["hostname"])?);
    soon("the logs", || {
        Ok(kube.log(&pod, "one")? == "log-one" && kube.log(&pod, "three")? == "log-three")
    })?;
    let shims = kube
        .node
        .sh("ps -e -o args= | grep -c '[c]ontainerd-shim'")?;
    facts.add("shims", shims);
    facts.add("one is ended by its client", kube.ended(&one)?.exit_code);
    ensure!(kube.running(&two)?, "two ended as well");
    let own = kube.cri.list_containers()?.len();
    facts.add("containers", own);
    kube.remove(&pod)
}

pub fn init(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("init")?;
    let volume = "/srv/conformance-init";
    kube.node
        .sh(&format!("rm -rf {volume}; mkdir -p {volume}"))?;
    let step = |name: &str, script: &str| {
        Container::new(name, "busybox", &["sh", "-c", script]).mount(volume, "/data", false)
    };
    let first = kube.start(&pod, &step("first", "echo first >/data/order"), 0)?;
    facts.add("first", kube.ended(&first)?.exit_code);
    let second = step(
        "second",
        "test -e /data/again && echo second >>/data/order || { touch /data/again; exit 1; }",
    );
    let failed = kube.start(&pod, &second, 0)?;
    let status = kube.ended(&failed)?;
    facts.add(
        "second fails",
        format!("{} {}", status.exit_code, status.reason),
    );
    let again = kube.start(&pod, &second, 1)?;
    let status = kube.ended(&again)?;
    facts.add(
        "second again",
        format!("{} {}", status.exit_code, status.reason),
    );
    kube.cri.remove_container(&failed)?;
    let main = kube.start(&pod, &step("main", "cat /data/order; sleep 1000000"), 0)?;
    soon("the log", || Ok(kube.log(&pod, "main")? == "first\nsecond"))?;
    ensure!(kube.running(&main)?, "main does not run");
    facts.add(
        "first is still known",
        kube.status(&first)?.state() == ContainerState::ContainerExited,
    );
    kube.remove(&pod)
}

pub fn restartable_init(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("sidecar")?;
    let container = |name: &str| Container::new(name, "busybox", &["sh", "-c", ENDS_ON_TERM]);
    let sidecar = kube.start(&pod, &container("sidecar"), 0)?;
    // kubelet waits for its start-up probe before it goes on.
    kube.exec(&sidecar, &["true"])?;
    let main = kube.start(&pod, &container("main"), 0)?;
    soon("both", || {
        Ok(kube.log(&pod, "sidecar")? == "started" && kube.log(&pod, "main")? == "started")
    })?;
    // It fails, and is started again beside the main container.
    kube.cri
        .exec_sync(&sidecar, &["kill", "-TERM", "1"], GRACE)?;
    facts.add("sidecar", kube.ended(&sidecar)?.exit_code);
    let again = kube.start(&pod, &container("sidecar"), 1)?;
    ensure!(kube.running(&main)?, "main ended with the sidecar");
    kube.cri.remove_container(&sidecar)?;
    soon("the sidecar", || {
        Ok(kube.log(&pod, "sidecar")?.ends_with("started"))
    })?;
    // Deletion: the main container first.
    kube.cri.stop_container(&main, GRACE)?;
    facts.add("main", kube.ended(&main)?.exit_code);
    ensure!(kube.running(&again)?, "the sidecar ended with main");
    kube.cri.stop_container(&again, GRACE)?;
    facts.add("sidecar again", kube.ended(&again)?.exit_code);
    let end = kube.status(&again)?.finished_at >= kube.status(&main)?.finished_at;
    facts.add("sidecar ended last", end);
    kube.remove(&pod)
}

pub fn back_off(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("back-off")?;
    let container = Container::new("main", "busybox", &["sh", "-c", "echo attempt; exit 1"]);
    let mut last: Option<String> = None;
    for attempt in 0..4_u32 {
        // kubelet begins with 10 s; the order of calls is the same.
        std::thread::sleep(Duration::from_millis(50 << attempt));
        let id = kube.start(&pod, &container, attempt)?;
        let status = kube.ended(&id)?;
        facts.add(
            format!("attempt {attempt}"),
            format!("{} {}", status.exit_code, status.reason),
        );
        if let Some(before) = last.replace(id) {
            kube.cri.remove_container(&before)?;
        }
    }
    facts.add("containers", kube.cri.list_containers()?.len());
    soon("the logs", || {
        Ok(kube.log(&pod, "main")?.lines().count() == 4)
    })?;
    kube.remove(&pod)
}

pub fn start_errors(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("errors")?;
    let missing = Container::new("missing", "busybox", &["/no/such/program"]);
    let id = kube.create(&pod, &missing, 0)?;
    let error = kube.cri.start_container(&id);
    let text = error
        .as_ref()
        .err()
        .map(ToString::to_string)
        .unwrap_or_default();
    facts.add("missing program", code(error)?);
    ensure!(text.contains("/no/such/program"), "{text}");
    let status = kube.status(&id)?;
    facts.add(
        "its status",
        format!(
            "{:?} {} {}",
            status.state(),
            status.exit_code,
            status.reason
        ),
    );
    kube.cri.remove_container(&id)?;

    let directory = Container::new("directory", "busybox", &["/bin"]);
    let id = kube.create(&pod, &directory, 0)?;
    facts.add("a directory", code(kube.cri.start_container(&id))?);
    facts.add("its exit code", kube.status(&id)?.exit_code);

    let mut config = Container::new("cwd", "busybox", &["true"]).config(&pod.pod, 0);
    "/etc/passwd".clone_into(&mut config.working_dir);
    let outcome = kube.create_with(&pod, config).map(|id| {
        let code = code_or_ok(kube.cri.start_container(&id)).unwrap_or_default();
        let status = kube
            .status(&id)
            .map(|status| status.exit_code)
            .unwrap_or_default();
        format!("{code} {status}")
    });
    facts.add(
        "a file as working directory",
        outcome.unwrap_or_else(|_| "not created".to_owned()),
    );

    let id = kube.start(&pod, &Container::new("twice", "busybox", &["true"]), 0)?;
    kube.ended(&id)?;
    facts.add(
        "start of an ended one",
        code(kube.cri.start_container(&id))?,
    );
    let id = kube.start(&pod, &Container::new("runs", "busybox", &[]), 0)?;
    facts.add(
        "start of a running one",
        code(kube.cri.start_container(&id))?,
    );

    let nobody = "0".repeat(64);
    facts.add("start of nobody", code(kube.cri.start_container(&nobody))?);
    facts.add(
        "stop of nobody",
        code_or_ok(kube.cri.stop_container(&nobody, GRACE))?,
    );
    facts.add(
        "remove of nobody",
        code_or_ok(kube.cri.remove_container(&nobody))?,
    );
    facts.add(
        "status of nobody",
        code(kube.cri.container_status(&nobody))?,
    );
    facts.add(
        "exec in nobody",
        code(kube.cri.exec_sync(&nobody, &["true"], GRACE))?,
    );
    facts.add(
        "stop of no sandbox",
        code_or_ok(kube.cri.stop_pod_sandbox(&nobody))?,
    );
    facts.add(
        "remove of no sandbox",
        code_or_ok(kube.cri.remove_pod_sandbox(&nobody))?,
    );
    kube.remove(&pod)
}

//! The shim as an ordinary runtime: what kubelet does with a pod that does not migrate. Each scenario
//! first runs under `runc`, so that what is expected is what containerd's own shim does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mycedrive_integration::workload::leftovers;
use mycedrive_integration::{Container, ContainerState, Node, Pod, RunningPod, Testbed};

use crate::expect;
use crate::world::{Scenario, has_service, three};

const GRACE: Duration = Duration::from_secs(2);
/// Ends with 7 on SIGTERM.
const ENDS_ON_TERM: &str =
    "trap 'exit 7' TERM; echo started; echo error >&2; while :; do sleep 0.1; done";

type Body = fn(&Node, &str) -> Result<()>;

pub fn all() -> Vec<Scenario> {
    let bodies: [(&str, Body); 9] = [
        ("life_cycle", life_cycle),
        ("ends_by_itself", ends_by_itself),
        ("missing_program", missing_program),
        ("exec", exec),
        ("users_and_roots", users_and_roots),
        ("two_containers", two_containers),
        ("terminal", terminal),
        ("out_of_memory", out_of_memory),
        ("restart_of_containerd", restart_of_containerd),
    ];
    let mut scenarios = Vec::new();
    // Of a pod whose shim is killed, containerd's own shim leaves all containers but the sandbox running:
    // nothing to compare with.
    let both = bodies.map(|(name, body)| (name, body, &["runc", "mycedrive"][..]));
    let ours: [(_, Body, _); 2] = [
        ("killed_shim", killed_shim, &["mycedrive"][..]),
        ("pause", pause, &["mycedrive"][..]),
    ];
    for (name, body, handlers) in both.into_iter().chain(ours) {
        for handler in handlers {
            scenarios.push(Scenario::new(
                format!("runtime::{name}::{handler}"),
                move |testbed| {
                    let (a, ..) = three(testbed)?;
                    let before = leftovers::of(a)?;
                    body(a, handler)?;
                    a.remove_all_pods()?;
                    let left = leftovers::since(a, &before)?;
                    ensure!(left.is_empty(), "left behind: {left:?}");
                    Ok(())
                },
            ));
        }
    }
    scenarios.push(Scenario::new(
        "runtime::without_the_daemon",
        without_the_daemon,
    ));
    scenarios
}

fn run(node: &Node, handler: &str, container: Container) -> Result<RunningPod> {
    Ok(node.run_pod(&Pod::new("plain", "pod").handler(handler).with(container))?)
}

pub fn life_cycle(node: &Node, handler: &str) -> Result<()> {
    let pod = run(
        node,
        handler,
        Container::new("main", "busybox", &["sh", "-c", ENDS_ON_TERM]),
    )?;
    expect::equal(
        "state",
        expect::state(node, &pod, "main")?,
        ContainerState::ContainerRunning,
    )?;
    expect::soon("the log", 5, || {
        Ok(node.container_log(&pod, "main")?.lines().count() == 2)
    })?;
    expect::contains(
        "log",
        &node.container_log(&pod, "main")?,
        &["started", "error"],
    )?;
    let started = Instant::now();
    node.cri()?.stop_container(pod.id("main"), GRACE)?;
    ensure!(started.elapsed() < GRACE, "SIGTERM was not enough");
    expect::equal("exit code", expect::exit_code(node, &pod, "main")?, 7)?;
    node.remove_pod(&pod)?;
    ensure!(
        node.cri()?.list_pod_sandbox()?.is_empty(),
        "the sandbox is still listed"
    );
    Ok(())
}

fn ends_by_itself(node: &Node, handler: &str) -> Result<()> {
    let pod = run(
        node,
        handler,
        Container::new("main", "busybox", &["sh", "-c", "exit 42"]),
    )?;
    expect::equal("exit code", expect::exit_code(node, &pod, "main")?, 42)?;
    // kubelet starts the next attempt in the same sandbox.
    let mut again = pod.clone();
    node.start_container(&mut again, &Container::new("main", "busybox", &[]), 1)?;
    expect::equal(
        "state",
        expect::state(node, &again, "main")?,
        ContainerState::ContainerRunning,
    )
}

fn missing_program(node: &Node, handler: &str) -> Result<()> {
    let mut pod = node.run_sandbox(&Pod::new("plain", "pod").handler(handler))?;
    let container = Container::new("main", "busybox", &["/no/such/program"]);
    let message = expect::failure("the start", node.start_container(&mut pod, &container, 0))?;
    expect::contains("message", &message, &["/no/such/program"])
}

pub fn exec(node: &Node, handler: &str) -> Result<()> {
    let pod = run(
        node,
        handler,
        Container::new("main", "busybox", &[]).env("COLOUR", "blue"),
    )?;
    let done = node.exec_in(
        &pod,
        "main",
        &["sh", "-c", "echo $COLOUR; echo wrong >&2; exit 3"],
    )?;
    expect::equal("code", done.code, 3)?;
    expect::equal(
        "output",
        (done.stdout.trim(), done.stderr.trim()),
        ("blue", "wrong"),
    )?;
    let message = expect::failure("exec", node.exec_in(&pod, "main", &["/no/such/program"]))?;
    expect::contains("message", &message, &["/no/such/program"])?;
    let started = Instant::now();
    let late = node
        .cri()?
        .exec_sync(pod.id("main"), &["sleep", "30"], Duration::from_secs(1));
    expect::failure("an exec over its time", late)?;
    ensure!(
        started.elapsed() < Duration::from_secs(8),
        "the time-out took {:?}",
        started.elapsed()
    );
    // Much output, and many at once.
    let count = expect::exec(node, &pod, "main", &["sh", "-c", "seq 1 100000"])?
        .lines()
        .count();
    expect::equal("lines", count, 100_000)?;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| expect::exec(node, &pod, "main", &["echo", "here"])))
            .collect();
        all.into_iter().try_for_each(|one| match one.join() {
            Ok(text) => expect::equal("output", text?.as_str(), "here"),
            Err(_) => anyhow::bail!("a thread panicked"),
        })
    })
}

fn users_and_roots(node: &Node, handler: &str) -> Result<()> {
    node.sh("mkdir -p /srv/shared && echo from-node >/srv/shared/file")?;
    let container = Container::new("main", "busybox", &[])
        .user(1234)
        .read_only()
        .mount("/srv/shared", "/shared", true);
    let pod = run(node, handler, container)?;
    expect::equal(
        "user",
        expect::exec(node, &pod, "main", &["id", "-u"])?.as_str(),
        "1234",
    )?;
    expect::equal(
        "file",
        expect::exec(node, &pod, "main", &["cat", "/shared/file"])?.as_str(),
        "from-node",
    )?;
    let write = node.exec_in(&pod, "main", &["touch", "/tmp/file"])?;
    ensure!(write.code != 0, "a read-only root was written to");
    expect::equal(
        "host name",
        expect::exec(node, &pod, "main", &["hostname"])?.as_str(),
        "pod",
    )
}

fn two_containers(node: &Node, handler: &str) -> Result<()> {
    let pod = Pod::new("plain", "pod")
        .handler(handler)
        .container(
            "one",
            "busybox",
            &[
                "sh",
                "-c",
                "echo shared >/dev/shm/file; nc -l -p 4000 -e echo hello",
            ],
        )
        .container("two", "busybox", &["sleep", "1000"]);
    let pod = node.run_pod(&pod)?;
    let shims = node.sh("ps -e -o args= | grep -c '[c]ontainerd-shim'")?;
    expect::equal("shims", shims.as_str(), "1")?;
    expect::soon("the listener", 5, || {
        Ok(node
            .exec_in(
                &pod,
                "two",
                &["sh", "-c", "nc 127.0.0.1 4000 </dev/null | grep hello"],
            )?
            .code
            == 0)
    })?;
    expect::equal(
        "shared memory",
        expect::exec(node, &pod, "two", &["cat", "/dev/shm/file"])?.as_str(),
        "shared",
    )?;
    // One ends, the other goes on.
    let stop = || -> Result<()> { Ok(node.cri()?.stop_container(pod.id("one"), Duration::ZERO)?) };
    match stop() {
        // Seen of containerd's own shim on a busy machine; kubelet asks again.
        Err(error) if handler == "runc" && error.to_string().contains("ttrpc: closed") => stop()?,
        first => first?,
    }
    expect::equal(
        "state",
        expect::state(node, &pod, "two")?,
        ContainerState::ContainerRunning,
    )
}

pub fn terminal(node: &Node, handler: &str) -> Result<()> {
    let container = Container::new(
        "main",
        "busybox",
        &["sh", "-c", "tty; stty size; sleep 1000"],
    )
    .terminal(true, false);
    let pod = run(node, handler, container)?;
    expect::soon("the terminal's name", 5, || {
        Ok(node.container_log(&pod, "main")?.contains("/dev/pts/0"))
    })
}

fn out_of_memory(node: &Node, handler: &str) -> Result<()> {
    let eat = "b = bytearray(); \nwhile True: b.extend(bytes(1 << 20))";
    let container = Container::new("main", "python", &["python3", "-c", eat]).memory(32 << 20);
    let pod = run(node, handler, container)?;
    expect::equal("exit code", expect::exit_code(node, &pod, "main")?, 137)?;
    expect::soon("the reason", 5, || {
        Ok(node.cri()?.container_status(pod.id("main"))?.reason == "OOMKilled")
    })
}

fn restart_of_containerd(node: &Node, handler: &str) -> Result<()> {
    let pod = run(
        node,
        handler,
        Container::new("main", "busybox", &["sh", "-c", ENDS_ON_TERM]),
    )?;
    node.kill_service("containerd")?;
    node.wait_ready()?;
    expect::equal(
        "state",
        expect::state(node, &pod, "main")?,
        ContainerState::ContainerRunning,
    )?;
    expect::equal(
        "output",
        expect::exec(node, &pod, "main", &["echo", "here"])?.as_str(),
        "here",
    )?;
    node.cri()?.stop_container(pod.id("main"), GRACE)?;
    expect::equal("exit code", expect::exit_code(node, &pod, "main")?, 7)
}

fn killed_shim(node: &Node, handler: &str) -> Result<()> {
    let pod = run(node, handler, Container::new("main", "busybox", &[]))?;
    // Nobody is left who could know the exit code: containerd says 255.
    node.sh("pkill -KILL -f '[c]ontainerd-shim.* -id'")?;
    expect::equal("exit code", expect::exit_code(node, &pod, "main")?, 255)?;
    expect::soon("the end of its processes", 5, || {
        Ok(node.sh("pgrep -x sleep | wc -l")?.trim() == "0")
    })
}

/// A runc that gives up on a control group, as it does on a busy machine.
const GIVES_UP: &str = r#"#!/bin/sh
for word; do [ "$word" != pause ] || { echo "unable to freeze" >&2; exit 1; }; done
exec /usr/sbin/runc.real "$@"
"#;

/// Containers pause although runc does not manage it.
fn pause(node: &Node, handler: &str) -> Result<()> {
    let counts = "while true; do echo x >>/tmp/x; sleep 0.01; done";
    let pod = run(
        node,
        handler,
        Container::new("main", "busybox", &["sh", "-c", counts]),
    )?;
    let id = pod.id("main");
    let ctr = |command: &str| node.sh(&format!("ctr -n k8s.io tasks {command} {id}"));
    let pid = node.sh(&format!("ctr -n k8s.io tasks ls | grep {id}"))?;
    let pid = pid.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let lines = || -> Result<u64> {
        let text = node.sh(&format!("wc -l </proc/{pid}/root/tmp/x"))?;
        Ok(text.trim().parse()?)
    };
    expect::soon("a count", 5, || Ok(lines().is_ok()))?;
    node.sh(&format!(
        "mv /usr/sbin/runc /usr/sbin/runc.real; cat >/usr/sbin/runc <<'END'\n{GIVES_UP}END\nchmod +x /usr/sbin/runc"
    ))?;
    let paused = ctr("pause");
    node.sh("mv /usr/sbin/runc.real /usr/sbin/runc")?;
    paused?;
    let before = lines()?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    expect::equal("lines", lines()?, before)?;
    ctr("resume")?;
    expect::soon("a count", 5, || Ok(lines()? > before))
}

/// If the daemon is down, ordinary pods are not affected.
fn without_the_daemon(testbed: &Testbed) -> Result<()> {
    let (a, ..) = three(testbed)?;
    if has_service(a, "mycedrive") {
        a.stop_service("mycedrive")?;
    }
    let result = life_cycle(a, "mycedrive");
    if has_service(a, "mycedrive") {
        a.start_service("mycedrive")?;
    }
    result
}

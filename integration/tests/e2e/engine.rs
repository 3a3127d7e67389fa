//! The engines on one node: what a wrapped program notices (nothing), checkpoint and restore by
//! `ctr` and CRI, and what happens where an engine cannot be used. One list over both engines.

mod choice;
mod limit;
mod paused;
mod tmpfs;

use anyhow::{Result, ensure};
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Container, Node, Pod};

use self::choice::{known, known_of, pod_with};
use crate::expect;
use crate::world::{Scenario, Skip, three};

/// Which engine a container is given.
pub const ANNOTATION: &str = "mycedrive.io/engine";
/// Where nodes have DMTCP, if this machine has it.
const DMTCP: &str = "/opt/dmtcp/bin/dmtcp_launch";
/// `ctr` with the images that CRI imported.
const CTR: &str = "export CONTAINERD_NAMESPACE=k8s.io; ";
/// Prints a number every tenth of a second.
const COUNT: &str = "import time
i = 0
while True:
    i += 1
    print(i, flush=True)
    time.sleep(0.1)";

type Body = fn(&Node, &str) -> Result<()>;

pub fn all() -> Vec<Scenario> {
    let both = &["criu", "dmtcp"][..];
    let dmtcp = &["dmtcp"][..];
    let bodies: [(&str, Body, &[&'static str]); 15] = [
        ("paused", paused::goes_on, both),
        ("exit", exit_after_checkpoint, both),
        ("files", paused::of_one_moment, both),
        ("tmpfs", tmpfs::comes_back, &["criu"]),
        // After CRIU's restore of a task without a network the loopback interface is down, and
        // what is not root it dumps only with CAP_SYS_RESOURCE: see `migration` for CRIU.
        ("redis", redis_goes_on, dmtcp),
        ("user", user_and_read_only_root, dmtcp),
        ("processes", processes, dmtcp),
        // What only DMTCP puts between containerd and the program.
        ("ends", ends_as_the_bare_program, dmtcp),
        ("unfit", choice::unfit, dmtcp),
        ("early_death", choice::early_death, dmtcp),
        ("behind_a_script", choice::behind_a_script, dmtcp),
        ("coordinator_killed", coordinator_killed, dmtcp),
        ("no_room", no_room, dmtcp),
        ("configured_prefix", choice::configured_prefix, dmtcp),
        ("pod", pod, dmtcp),
    ];
    let mut scenarios = Vec::new();
    for (name, body, engines) in bodies {
        for engine in engines {
            scenarios.push(Scenario::new(
                format!("engine::{name}::{engine}"),
                move |testbed| {
                    let (a, ..) = three(testbed)?;
                    need(a, engine)?;
                    clear(a)?;
                    let result = body(a, engine);
                    clear(a)?;
                    result
                },
            ));
        }
    }
    scenarios.push(Scenario::new("engine::none", choice::none));
    scenarios.push(limit::scenario());
    scenarios
}

/// The scenario goes on only where the engine is installed.
pub fn need(node: &Node, engine: &str) -> Result<()> {
    if engine == "dmtcp" && node.exec(&["test", "-x", DMTCP])?.code != 0 {
        return Err(Skip(format!("DMTCP is not installed on this machine ({DMTCP})")).into());
    }
    Ok(())
}

/// Removes the task of an earlier scenario, and what this node knows of programs.
fn clear(node: &Node) -> Result<()> {
    node.sh(&format!(
        "{CTR} ctr task rm -f t >/dev/null 2>&1 || true; ctr c rm t >/dev/null 2>&1 || true; \
         ctr i rm localhost/checkpoint:1 >/dev/null 2>&1 || true; \
         rm -rf /var/lib/mycedrive/dmtcp/fatal /tmp/image /tmp/out"
    ))?;
    Ok(())
}

/// Runs the task `t` in the background; its output goes to `/tmp/out`.
fn run(node: &Node, engine: &str, options: &str, image: &str, command: &str) -> Result<()> {
    node.sh(&format!(
        "{CTR} ctr run {options} --annotation {ANNOTATION}={engine} \
         --runtime io.containerd.mycedrive.v2 localhost/{image}:1 t {command} \
         >/tmp/out 2>&1 </dev/null &"
    ))?;
    expect::soon("the task", 10, || Ok(state(node)? == "RUNNING"))?;
    if engine == "dmtcp" {
        // Which the shim says when the program is under DMTCP.
        expect::soon("a process under DMTCP", 10, || {
            Ok(!carried(node)?.is_empty())
        })?;
    }
    Ok(())
}

/// `RUNNING`, `PAUSED`, `STOPPED`; empty without a task.
fn state(node: &Node) -> Result<String> {
    Ok(node.sh(&format!(
        "{CTR} ctr task ls | awk '$1 == \"t\" {{print $3}}'"
    ))?)
}

/// Processes that have a connection to a coordinator where DMTCP keeps it; a coordinator has its
/// own socket there.
pub fn carried(node: &Node) -> Result<String> {
    Ok(node.sh("for p in /proc/[0-9]*; do \
         if [ -e $p/fd/821 ] && ! grep -q ^dmtcp_coor $p/comm; then echo $p; fi; done")?)
}

fn exec(node: &Node, command: &str) -> Result<String> {
    Ok(node.sh(&format!("{CTR} ctr task exec --exec-id e t {command}"))?)
}

fn checkpoint(node: &Node) -> Result<()> {
    node.sh(&format!(
        "{CTR} ctr i rm localhost/checkpoint:1 >/dev/null 2>&1 || true; \
         ctr c checkpoint --task t localhost/checkpoint:1"
    ))?;
    Ok(())
}

/// Kills the task and makes it anew from the checkpoint.
fn restore(node: &Node) -> Result<()> {
    node.sh(&format!(
        "{CTR} ctr task rm -f t >/dev/null 2>&1 || true; ctr c rm t; \
         ctr c restore --live t localhost/checkpoint:1 2>&1 </dev/null"
    ))?;
    expect::equal("state", state(node)?.as_str(), "RUNNING")
}

fn last_number(node: &Node) -> Result<u64> {
    let text = node.sh("tail -n 1 /tmp/out")?;
    Ok(text.trim().parse().unwrap_or(0))
}

fn redis_goes_on(node: &Node, engine: &str) -> Result<()> {
    run(node, engine, "", "redis", "")?;
    expect::soon("redis", 10, || Ok(exec(node, "redis-cli ping").is_ok()))?;
    exec(node, "redis-cli set before 1")?;
    checkpoint(node)?;
    // The program went on, and what it did since is not in the image.
    exec(node, "redis-cli set after 1")?;
    restore(node)?;
    expect::equal("before", exec(node, "redis-cli get before")?.trim(), "1")?;
    expect::equal("after", exec(node, "redis-cli get after")?.trim(), "")?;
    // And again: the restored program is as good as the first.
    exec(node, "redis-cli set second 2")?;
    checkpoint(node)?;
    restore(node)?;
    expect::equal("second", exec(node, "redis-cli get second")?.trim(), "2")
}

fn exit_after_checkpoint(node: &Node, engine: &str) -> Result<()> {
    run(node, engine, "", "python", &format!("python3 -c '{COUNT}'"))?;
    expect::soon("output", 10, || Ok(last_number(node)? > 2))?;
    node.sh(&format!(
        "{CTR} mkdir -p /tmp/image; ctr task checkpoint --exit --image-path /tmp/image t"
    ))?;
    expect::soon("its end", 5, || Ok(state(node)? != "RUNNING"))?;
    let files = node.sh("find /tmp/image -type f | wc -l")?;
    ensure!(files.trim() != "0", "there is no image");
    Ok(())
}

fn user_and_read_only_root(node: &Node, engine: &str) -> Result<()> {
    let program = "import os, time
print(os.getuid(), os.getgid(), os.access(\"/\", os.W_OK), os.getcwd(), flush=True)
while True: time.sleep(0.1)";
    let options = "--user 1000:1000 --read-only --cwd /tmp";
    run(
        node,
        engine,
        options,
        "python",
        &format!("python3 -c '{program}'"),
    )?;
    expect::soon("output", 10, || {
        Ok(node.sh("cat /tmp/out")?.contains("1000 1000 False /tmp"))
    })?;
    checkpoint(node)?;
    restore(node)?;
    let user = "awk '/^Uid:/ {print $2}' /proc/$(pgrep -n python3 || pgrep -f -n DMTCP)/status";
    expect::equal("user", node.sh(user)?.trim(), "1000")
}

/// A parent and a child that talk through a pipe.
fn processes(node: &Node, engine: &str) -> Result<()> {
    let program = "import os, time
r, w = os.pipe()
if os.fork() == 0:
    while True:
        os.write(w, b\"x\")
        time.sleep(0.1)
n = 0
while True:
    n += len(os.read(r, 1))
    with open(\"/tmp/n\", \"w\") as f: f.write(str(n))";
    run(
        node,
        engine,
        "",
        "python",
        &format!("python3 -c '{program}'"),
    )?;
    let number = || -> Result<u64> {
        Ok(exec(node, "sh -c 'cat /tmp/n || echo 0'")?
            .trim()
            .parse()
            .unwrap_or(0))
    };
    expect::soon("the pipe", 10, || Ok(number()? > 3))?;
    checkpoint(node)?;
    let before = number()?;
    restore(node)?;
    expect::soon("the pipe after the restore", 10, || {
        let now = number()?;
        ensure!(now < before + 1000, "{now} after {before}");
        Ok(now > before)
    })
}

fn ends_as_the_bare_program(node: &Node, engine: &str) -> Result<()> {
    let run = |command: &str| -> Result<String> {
        Ok(node.sh(&format!(
            "{CTR} ctr run --rm --annotation {ANNOTATION}={engine} --env WHO=me \
             --runtime io.containerd.mycedrive.v2 localhost/python:1 t {command} 2>&1 && echo code 0 || echo code $?"
        ))?)
    };
    expect::contains(
        "exit",
        &run("python3 -c 'raise SystemExit(42)'")?,
        &["code 42"],
    )?;
    let kill = "python3 -c 'import os; os.kill(os.getpid(), 9)'";
    expect::contains("signal", &run(kill)?, &["code 137"])?;
    let environment = "python3 -c 'import os; print(os.environ[\"WHO\"], os.getpid() > 1)'";
    expect::contains("environment", &run(environment)?, &["me True", "code 0"])?;
    // Signals reach the program, not only its first process.
    let handler = "import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(\"ready\", flush=True)
while True: time.sleep(0.1)";
    self::run(
        node,
        engine,
        "",
        "python",
        &format!("python3 -c '{handler}'"),
    )?;
    expect::soon("ready", 10, || {
        Ok(node.sh("cat /tmp/out")?.contains("ready"))
    })?;
    node.sh(&format!("{CTR} ctr task kill -s TERM t"))?;
    let code = "ctr task rm t 2>&1 || true";
    expect::soon("its end", 5, || {
        Ok(state(node)? == "STOPPED" || state(node)?.is_empty())
    })?;
    let _ = node.sh(&format!("{CTR} {code}"))?;
    Ok(())
}

/// Its pod's programs end, and can be started again; other pods do not notice.
fn coordinator_killed(node: &Node, engine: &str) -> Result<()> {
    let container = || Container::new("main", "python", &["python3", "-c", COUNT]);
    let mut first = node.run_pod(&pod_with(engine, container()))?;
    let second = Pod::new("plain", "other")
        .with(container())
        .annotation(ANNOTATION, engine);
    let second = node.run_pod(&second)?;
    expect::soon("output", 10, || {
        Ok(node.container_log(&second, "main")?.lines().count() > 2)
    })?;
    node.sh("kill -KILL $(pgrep -o dmtcp_coor)")?;
    let code = expect::exit_code(node, &first, "main")?;
    ensure!((160..250).contains(&code), "exit code {code}");
    let lines = node.container_log(&second, "main")?.lines().count();
    expect::soon("more output of the other pod", 5, || {
        Ok(node.container_log(&second, "main")?.lines().count() > lines)
    })?;
    // As kubelet does, in the same pod: under DMTCP again, with another coordinator.
    node.start_container(&mut first, &container(), 1)?;
    expect::soon("two pods under DMTCP", 10, || {
        let coordinators = node.sh("pgrep dmtcp_coor | wc -l")?;
        Ok(coordinators == "2" && carried(node)?.lines().count() == 2)
    })?;
    let container = known_of(node, &first.sandbox, "main")?;
    expect::equal("engine", container["engine"].as_str(), Some("dmtcp"))
}

/// An image that does not fit is refused before anything is done.
fn no_room(node: &Node, engine: &str) -> Result<()> {
    run(node, engine, "", "python", &format!("python3 -c '{COUNT}'"))?;
    expect::soon("output", 10, || Ok(last_number(node)? > 2))?;
    node.sh("mkdir -p /tmp/image; mount -t tmpfs -o size=4m tmpfs /tmp/image")?;
    let result = node.sh(&format!(
        "{CTR} ctr task checkpoint --image-path /tmp/image t 2>&1"
    ));
    node.sh("umount /tmp/image")?;
    let message = expect::failure("the checkpoint", result)?;
    expect::contains("message", &message, &["MiB free", "nothing was done"])?;
    let number = last_number(node)?;
    expect::soon("more output", 5, || Ok(last_number(node)? > number))
}

/// A pod under DMTCP is shown as such, and CRI can checkpoint it.
fn pod(node: &Node, engine: &str) -> Result<()> {
    let pod = redis::pod("redis-0", "mycedrive").annotation(ANNOTATION, engine);
    let pod = node.run_pod(&pod)?;
    expect::soon("redis", 10, || {
        Ok(node.exec_in(&pod, "redis", &["redis-cli", "ping"])?.code == 0)
    })?;
    let container = known(node, "redis")?;
    expect::equal("engine", container["engine"].as_str(), Some("dmtcp"))?;
    let file = "/tmp/image.tar";
    node.cri()?.checkpoint_container(pod.id("redis"), file)?;
    let names = node.sh(&format!("tar -tf {file}; rm {file}"))?;
    expect::contains("archive", &names, &["mycedrive-dmtcp.json", ".dmtcp"])?;
    expect::equal(
        "redis",
        expect::exec(node, &pod, "redis", &["redis-cli", "ping"])?.as_str(),
        "PONG",
    )
}

//! Which engine carries a program, and that the reason is shown.

use anyhow::Result;
use mycedrive_integration::{Container, Node, Pod, Testbed};
use serde_json::Value;

use super::{ANNOTATION, COUNT, CTR, last_number, run};
use crate::expect;
use crate::world::{need_daemon, three};

/// What `mycedrive ps` knows of the container called `name`.
pub(super) fn known(node: &Node, name: &str) -> Result<Value> {
    known_of(node, "", name)
}

/// The same in the pod with this sandbox; any if it is empty.
pub(super) fn known_of(node: &Node, sandbox: &str, name: &str) -> Result<Value> {
    let pods: Vec<Value> = serde_json::from_str(&node.sh("mycedrive ps --json")?)?;
    let container = pods
        .iter()
        .filter(|pod| sandbox.is_empty() || pod["sandbox"] == sandbox)
        .filter_map(|pod| pod["containers"].as_array())
        .flatten()
        .find(|container| container["name"] == name);
    Ok(container.cloned().unwrap_or_default())
}

pub(super) fn pod_with(engine: &str, container: Container) -> Pod {
    Pod::new("plain", "pod")
        .with(container)
        .annotation(ANNOTATION, engine)
}

/// A static program goes to CRIU, and the reason is shown.
pub(super) fn unfit(node: &Node, engine: &str) -> Result<()> {
    let pod = pod_with(
        engine,
        Container::new("main", "busybox", &["sleep", "1000"]),
    );
    node.run_pod(&pod)?;
    let container = known(node, "main")?;
    expect::equal("engine", container["engine"].as_str(), Some("criu"))?;
    let why = container["engine_why"].as_str().unwrap_or_default();
    expect::contains("reason", why, &["dmtcp", "statically linked"])
}

/// A program that DMTCP gives up at once is started again without it, once.
pub(super) fn early_death(node: &Node, engine: &str) -> Result<()> {
    node.sh("rm -rf /srv/once; mkdir -p /srv/once")?;
    let program = "import os, sys, time
code = os.environ.get(\"DMTCP_FAIL_RC\")
with open(\"/once/starts\", \"a\") as f: f.write(\"dmtcp\\n\" if code else \"bare\\n\")
if code: os._exit(int(code))
print(\"serving\", flush=True)
while True: time.sleep(0.1)";
    let container = Container::new("main", "python", &["python3", "-c", program]).mount(
        "/srv/once",
        "/once",
        false,
    );
    let pod = node.run_pod(&pod_with(engine, container))?;
    expect::soon("the second start", 10, || {
        Ok(node.container_log(&pod, "main")?.contains("serving"))
    })?;
    expect::equal(
        "starts",
        node.sh("cat /srv/once/starts")?.trim(),
        "dmtcp\nbare",
    )?;
    let container = known(node, "main")?;
    expect::equal("engine", container["engine"].as_str(), Some("criu"))?;
    let why = container["engine_why"].as_str().unwrap_or_default();
    expect::contains("reason", why, &["failure code"])?;
    // It is not tried again, in another container neither.
    node.remove_pod(&pod)?;
    node.sh("rm /srv/once/starts")?;
    let container = Container::new("main", "python", &["python3", "-c", program]).mount(
        "/srv/once",
        "/once",
        false,
    );
    let pod = node.run_pod(&pod_with(engine, container))?;
    expect::soon("its start", 10, || {
        Ok(node.container_log(&pod, "main")?.contains("serving"))
    })?;
    expect::equal("starts", node.sh("cat /srv/once/starts")?.trim(), "bare")
}

/// A program that would not survive a checkpoint, started by another one: refused, and it goes on.
pub(super) fn behind_a_script(node: &Node, engine: &str) -> Result<()> {
    let program = format!(
        "import os
os.symlink(\"/usr/bin/python3\", \"/tmp/nginx\")
os.execv(\"/tmp/nginx\", [\"nginx\", \"-c\", \"\"\"{COUNT}\"\"\"])"
    );
    run(
        node,
        engine,
        "",
        "python",
        &format!("python3 -c '{program}'"),
    )?;
    expect::soon("output", 10, || Ok(last_number(node)? > 2))?;
    let message = expect::failure(
        "the checkpoint",
        node.sh(&format!(
            "{CTR} mkdir -p /tmp/image; ctr task checkpoint --image-path /tmp/image t 2>&1"
        )),
    )?;
    expect::contains("message", &message, &["(nginx)", "mycedrive.io/engine"])?;
    let number = last_number(node)?;
    expect::soon("more output", 5, || Ok(last_number(node)? > number))
}

/// The DMTCP of the prefix that the configuration names is used, and no other instead.
pub(super) fn configured_prefix(node: &Node, engine: &str) -> Result<()> {
    const CONFIG: &str = "/etc/mycedrive/config.toml";
    const COPY: &str = "/srv/own-dmtcp";
    let sleeper = || Container::new("main", "python", &["python3", "-c", COUNT]);
    let tried = || -> Result<()> {
        let pod = node.run_pod(&pod_with(engine, sleeper()))?;
        let program = "readlink /proc/$(pgrep -o dmtcp_coor)/exe";
        let expected = format!("{COPY}/bin/dmtcp_coordinator");
        expect::equal("coordinator", node.sh(program)?.trim(), expected.as_str())?;
        let checked = node.sh("mycedrive doctor || true")?;
        expect::contains("doctor", &checked, &["ok    dmtcp: "])?;
        node.remove_pod(&pod)?;
        node.sh(&format!("rm -r {COPY}"))?;
        node.run_pod(&pod_with(engine, sleeper()))?;
        let container = known(node, "main")?;
        expect::equal("engine", container["engine"].as_str(), Some("criu"))?;
        let why = container["engine_why"].as_str().unwrap_or_default();
        expect::contains("reason", why, &[COPY, "dmtcp_prefix"])?;
        let checked = node.sh("mycedrive doctor || true")?;
        expect::contains("doctor", &checked, &["FAIL  dmtcp: ", COPY])
    };
    node.sh(&format!(
        "rm -rf {COPY}; cp -r /opt/dmtcp {COPY}; cp {CONFIG} {CONFIG}.kept; \
         sed -i '1i dmtcp_prefix = \"{COPY}\"' {CONFIG}"
    ))?;
    let result = tried();
    node.sh(&format!("rm -rf {COPY}; mv {CONFIG}.kept {CONFIG}"))?;
    result
}

/// A pod that wants no engine has none, and the reason is shown.
pub(super) fn none(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, ..) = three(testbed)?;
    let pod = pod_with(
        "none",
        Container::new("main", "busybox", &["sleep", "1000"]),
    );
    let pod = a.run_pod(&pod)?;
    let container = known(a, "main")?;
    expect::equal("engine", container["engine"].as_str(), Some("none"))?;
    let message = expect::failure(
        "a checkpoint",
        a.cri()?
            .checkpoint_container(pod.id("main"), "/tmp/image.tar"),
    )?;
    expect::contains("message", &message, &["no engine", ANNOTATION])?;
    let wrong = Pod::new("plain", "wrong")
        .container("main", "busybox", &["sleep", "1"])
        .annotation(ANNOTATION, "vmware");
    let message = expect::failure("a pod with an unknown engine", a.run_pod(&wrong))?;
    expect::contains("message", &message, &["vmware", "dmtcp", "criu"])
}

//! The commands that take checkpoints and go on from them, as a person types them, under each engine.

mod record;

use std::path::Path;

use anyhow::{Context, Result};
use mycedrive_integration::{Node, Testbed, crictl};

use crate::Conditions;
use crate::engine::Engine;
use record::Record;

const TOP: &str = "# Checkpoints: what the commands say

Written by `cargo run --release --bin measure -- transcript`, which types the commands of
[checkpoint.md](checkpoint.md) on two nodes of the testbed, first under CRIU, then under DMTCP. Do not edit.
`ctr` stands for `ctr -n k8s.io`. A program counts ten times a second into its root layer (`/count`) and into
a volume (`/data/count`). Ids, long lines and long lists are cut (`…`).
";

/// Counts, in one step for whoever reads.
const COUNT: &str = r#"import os, time
print("up", flush=True)
n = 0
while True:
    n += 1
    for path in "/count", "/data/count":
        with open(path + ".new", "w") as file:
            file.write(f"{n}\n")
        os.replace(path + ".new", path)
    time.sleep(0.1)
"#;
const IMAGE: &str = "localhost/python:1";
/// Where the commands are typed, and what they name without a path.
const HERE: &str = "/srv";

/// The nodes, and what was typed on them.
struct Session<'a> {
    a: &'a Node,
    b: &'a Node,
    engine: Engine,
    record: Record,
}

impl Session<'_> {
    /// Types a command on node A.
    fn a(&mut self, command: &str) -> Result<String> {
        self.record.typed(self.a, command)
    }

    /// Types a command on node B.
    fn b(&mut self, command: &str) -> Result<String> {
        self.record.typed(self.b, command)
    }
}

/// Writes `checkpoint-transcript.md` into `docs`. Needs `crictl` in the `PATH`, and DMTCP.
pub fn run(testbed: &Testbed, docs: &Path) -> Result<()> {
    let crictl = crictl().context("this machine has no crictl in its PATH")?;
    let (a, b) = (testbed.node("a")?, testbed.node("b")?);
    for node in [a, b] {
        node.install_crictl(&crictl)?;
        node.sh("mkdir -p /srv/data")?;
        std::fs::write(node.path("/srv/count.py"), COUNT)?;
        node.serve_image(IMAGE)?;
    }
    let mut text = TOP.to_owned();
    text.push_str(&versions(a)?);
    for engine in [Engine::Criu, Engine::Dmtcp] {
        let mut session = Session {
            a,
            b,
            engine,
            record: Record::default(),
        };
        for part in [tasks, containers, cri, archives] {
            part(&mut session).with_context(|| engine.name())?;
        }
        text.push_str(&session.record.end());
    }
    let path = docs.join("checkpoint-transcript.md");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn versions(node: &Node) -> Result<String> {
    let script = "containerd --version | awk '{print \"containerd \" $3}'
        runc --version | awk 'NR == 1 {print \"runc \" $3}'
        criu --version | awk 'NR == 1 {print \"CRIU \" $2}'
        /opt/dmtcp/bin/dmtcp_launch --version | awk 'NR == 1 {print \"DMTCP \" $NF}'
        crictl --version | awk '{print \"crictl \" $3}'";
    let text = node.sh(script)?;
    let all: Vec<&str> = text.lines().collect();
    Ok(format!(
        "\n{}, kernel {}.\n",
        all.join(", "),
        Conditions::now().kernel
    ))
}

/// A task that `ctr` runs, with a volume.
fn start(session: &mut Session<'_>, id: &str) -> Result<()> {
    let engine = session.engine.name();
    session.a(&format!(
        "ctr run -d --annotation mycedrive.io/engine={engine} --runtime io.containerd.mycedrive.v2 \\\n    \
         --mount type=bind,src=/srv/data,dst=/data,options=rbind:rw \\\n    \
         --mount type=bind,src=/srv/count.py,dst=/count.py,options=rbind:ro \\\n    \
         {IMAGE} {id} python3 /count.py"
    ))?;
    // Until DMTCP has the program.
    std::thread::sleep(std::time::Duration::from_secs(3));
    Ok(())
}

fn tasks(session: &mut Session<'_>) -> Result<()> {
    session
        .record
        .title(session.engine, "`ctr task checkpoint`");
    start(session, "one")?;
    for command in [
        "mycedrive ps",
        // `ctr` names an image by the second; two in one second have the same name.
        "ctr task checkpoint one",
        "sleep 1; ctr task checkpoint --image-path /srv/images --work-path /srv/work one",
        "ls images work",
        "ctr task exec --exec-id e one cat /count /data/count",
        "sleep 1; echo mine >images/precious; ctr task checkpoint --image-path /srv/images one",
        "sleep 1; ctr task checkpoint --exit --image-path /srv/last one",
        "ctr task ls",
        "ls last | wc -l",
    ] {
        session.a(command)?;
    }
    session.a("ctr task rm -f one; ctr containers rm one; rm -rf images work last")?;
    Ok(())
}

fn containers(session: &mut Session<'_>) -> Result<()> {
    session.record.title(
        session.engine,
        "`ctr container checkpoint` and `restore`, here and on another node",
    );
    start(session, "two")?;
    for command in [
        "ctr container checkpoint --task --rw --image two localhost/two:1",
        "ctr task exec --exec-id e two cat /count",
        "ctr task rm -f two; ctr containers rm two",
        "ctr container restore --live --rw three localhost/two:1",
        "ctr task exec --exec-id e three cat /count /data/count",
        "ctr task ls",
        "ctr images export --skip-manifest-json two.tar localhost/two:1",
    ] {
        session.a(command)?;
    }
    let file = "/srv/two.tar";
    std::fs::copy(session.a.path(file), session.b.path(file))?;
    for command in [
        "ctr images import --local --no-unpack two.tar",
        "ctr container restore --live --rw four localhost/two:1",
        "ctr task exec --exec-id e four cat /count /data/count",
        "ctr task rm -f four; ctr containers rm four; ctr images rm localhost/two:1; rm two.tar",
    ] {
        session.b(command)?;
    }
    session.a(
        "ctr task rm -f three; ctr containers rm three; ctr images rm localhost/two:1; rm two.tar",
    )?;
    Ok(())
}

/// The pod's and the container's configuration for `crictl`.
fn configuration(node: &Node, engine: Engine, name: &str, image: &str) -> Result<()> {
    let security = serde_json::json!({ "namespace_options": { "pid": 1 } });
    let pod = serde_json::json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "1", "attempt": 0 },
        "hostname": "web",
        "log_directory": "/var/log/pods/shop_web_1",
        "annotations": {
            "mycedrive.io/engine": engine.name(),
            "mycedrive.io/volumes": "/data",
        },
        "linux": { "cgroup_parent": "/kubepods/pod1", "security_context": security },
    });
    let mount =
        |from: &str, to: &str| serde_json::json!({ "host_path": from, "container_path": to });
    let container = serde_json::json!({
        "metadata": { "name": "main" },
        "image": { "image": image },
        "command": ["python3", "/count.py"],
        "log_path": "main.log",
        "mounts": [mount("/srv/data", "/data"), mount("/srv/count.py", "/count.py")],
        "linux": { "security_context": security },
    });
    std::fs::write(node.path("/srv/pod.json"), pod.to_string())?;
    std::fs::write(
        node.path(&format!("/srv/{name}.json")),
        container.to_string(),
    )?;
    Ok(())
}

/// Makes and starts a pod of one container with `crictl`; answers with the ids of both.
fn crictl_start(session: &mut Session<'_>, name: &str) -> Result<(String, String)> {
    let pod = session.a("crictl runp --runtime mycedrive pod.json")?;
    let container = session.a(&format!("crictl create {pod} {name}.json pod.json"))?;
    session.a(&format!("crictl start {container}"))?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    Ok((pod, container))
}

fn cri(session: &mut Session<'_>) -> Result<()> {
    session.record.title(session.engine, "`crictl`");
    configuration(session.a, session.engine, "container", IMAGE)?;
    let (pod, container) = crictl_start(session, "container")?;
    // The rest of what it shows it reads from CRIU's images.
    let inspect = match session.engine {
        Engine::Criu => "--stats --metadata --ps-tree",
        _ => "--metadata",
    };
    for command in [
        "crictl pods".to_owned(),
        "crictl ps".to_owned(),
        format!("crictl exec {container} cat /etc/hostname"),
        format!("crictl logs {container}"),
        format!("crictl stats {container}"),
        format!("crictl statsp {pod}"),
        format!("crictl update --memory 268435456 {container}"),
        format!("crictl checkpoint --export=/srv/web.tar {container}"),
        format!("crictl exec {container} cat /count"),
        "checkpointctl show web.tar".to_owned(),
        format!("checkpointctl inspect {inspect} web.tar"),
        "tar -tf web.tar | grep -v /".to_owned(),
        format!("crictl stop --timeout 1 {container}"),
        format!("crictl rm {container}; crictl stopp {pod}; crictl rmp {pod}"),
    ] {
        session.a(&command)?;
    }
    session.record.say(
        "Another pod goes on from the archive, which stands in for the image of its container:",
    );
    configuration(session.a, session.engine, "restored", "/srv/web.tar")?;
    session.a("grep -o '\"image\":{[^}]*}' restored.json")?;
    let (pod, container) = crictl_start(session, "restored")?;
    session.a(&format!("crictl exec {container} cat /count"))?;
    session.a(&format!("crictl rmp -f {pod}; rm web.tar"))?;
    Ok(())
}

fn archives(session: &mut Session<'_>) -> Result<()> {
    session.record.title(session.engine, "Archives");
    configuration(session.a, session.engine, "container", IMAGE)?;
    let (pod, _) = crictl_start(session, "container")?;
    let made = session.a("mycedrive checkpoint shop/web --output web.myce")?;
    if made.contains("frozen for") {
        session.a("mycedrive inspect web.myce")?;
        let file = "/srv/web.myce";
        std::fs::copy(session.a.path(file), session.b.path(file))?;
        session.b("mycedrive restore web.myce")?;
        configuration(session.b, session.engine, "container", IMAGE)?;
        session.b(
            "sed -i 's|\"annotations\":{|&\"mycedrive.io/restore-from\":\"web.myce\",|' pod.json",
        )?;
        let there = session.b("crictl runp --runtime mycedrive pod.json")?;
        let container = session.b(&format!("crictl create {there} container.json pod.json"))?;
        session.b(&format!("crictl start {container}"))?;
        session.b(&format!("crictl exec {container} cat /count /data/count"))?;
        session.b(&format!("crictl rmp -f {there}; rm web.myce"))?;
    }
    session.a(&format!("crictl rmp -f {pod}; rm -f web.myce"))?;
    Ok(())
}

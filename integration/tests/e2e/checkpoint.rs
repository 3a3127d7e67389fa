//! Checkpoint and restore with containerd's own tools: `ctr`, and CRI's CheckpointContainer, which is
//! what `crictl checkpoint` and kubelet's checkpoint API call.

use anyhow::{Context, Result, ensure};
use mycedrive_integration::{Node, Pod, Testbed};

use crate::expect;
use crate::world::{Scenario, Skip, three};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("checkpoint::ctr_task", ctr_task),
        Scenario::new("checkpoint::ctr_container", ctr_container),
        Scenario::new("checkpoint::ctr_container_elsewhere", elsewhere),
        Scenario::new("checkpoint::what_does_not_fit", what_does_not_fit),
        Scenario::new("checkpoint::cri", cri),
    ]
}

/// Counts in its root layer, ten times a second.
const COUNT: &str =
    "i=0; while :; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; sleep 0.1; done";
/// Rewrites an exported checkpoint image, as somebody would who wants to get in by it.
const TAMPER: &str = include_str!("checkpoint/tamper.py");
const IMAGE: &str = "localhost/checkpoint:1";
const SAVED: &str = "/srv/checkpoint.tar";

/// `ctr` in the namespace where the images are.
fn ctr(node: &Node, arguments: &str) -> Result<String> {
    Ok(node.sh(&format!("ctr --namespace k8s.io {arguments}"))?)
}

/// containerd 1.7: its `ctr` tells runc's own runtime alone where a checkpoint goes and whether the task ends.
fn is_old(node: &Node) -> Result<bool> {
    Ok(node.cri()?.version()?.runtime_version.contains("1.7."))
}

/// A task that ends with the scenario, whatever becomes of it.
struct Task<'a> {
    node: &'a Node,
    id: &'a str,
}

impl<'a> Task<'a> {
    fn run(node: &'a Node, id: &'a str) -> Result<Self> {
        let task = Self { node, id };
        ctr(
            node,
            &format!(
                "run -d --runtime io.containerd.mycedrive.v2 localhost/busybox:1 {id} sh -c '{COUNT}'"
            ),
        )?;
        task.counts_beyond(0)?;
        Ok(task)
    }

    fn restore(node: &'a Node, id: &'a str, image: &str) -> Result<Self> {
        let task = Self { node, id };
        ctr(
            node,
            &format!("containers restore --live --rw {id} {image}"),
        )?;
        Ok(task)
    }

    fn count(&self) -> Result<u64> {
        let text = ctr(
            self.node,
            &format!("task exec --exec-id look {} cat /count", self.id),
        )?;
        text.parse().with_context(|| format!("the count {text:?}"))
    }

    fn counts_beyond(&self, before: u64) -> Result<u64> {
        let mut now = 0;
        expect::soon(&format!("{} counts beyond {before}", self.id), 10, || {
            now = self.count().unwrap_or(0);
            Ok(now > before)
        })?;
        Ok(now)
    }

    fn state(&self) -> Result<String> {
        let script = format!("task ls | awk '$1 == \"{}\" {{ print $3 }}'", self.id);
        ctr(self.node, &script)
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        let id = self.id;
        let all = format!(
            "for step in 'task rm -f' 'containers rm'; do ctr -n k8s.io $step {id} || true; done; \
             ctr -n k8s.io images ls -q | grep checkpoint | xargs -r ctr -n k8s.io images rm; \
             rm -rf /tmp/ctrd-checkpoint*"
        );
        if let Err(error) = self.node.sh(&all) {
            eprintln!("{id} on {}: {error}", self.node.name());
        }
    }
}

/// The image path holds flat files and the manifest; the work path the log; the task goes on.
fn ctr_task(testbed: &Testbed) -> Result<()> {
    let (a, ..) = three(testbed)?;
    let task = Task::run(a, "task")?;
    let before = task.count()?;
    ctr(a, "task checkpoint task")?;
    let before = task.counts_beyond(before)?;
    if is_old(a)? {
        return Ok(());
    }

    a.sh("rm -rf /srv/images /srv/work")?;
    // ctr names an image by the second; two in one second have the same name.
    let to_path = || {
        a.sh("ctr -n k8s.io images ls -q | grep checkpoint | xargs -r ctr -n k8s.io images rm")?;
        ctr(
            a,
            "task checkpoint --image-path /srv/images --work-path /srv/work task",
        )
    };
    to_path()?;
    let before = task.counts_beyond(before)?;
    let files = a.sh("ls /srv/images")?;
    let wanted = ["mycedrive-checkpoint.json", "inventory.img", "pages-1.img"];
    expect::contains("image path", &files, &wanted)?;
    expect::contains("work path", &a.sh("ls /srv/work")?, &["dump.log"])?;
    a.sh("test -z \"$(find /srv/images -mindepth 1 ! -type f)\"")?;
    let manifest = a.sh("cat /srv/images/mycedrive-checkpoint.json")?;
    expect::contains(
        "manifest",
        &manifest,
        &["\"engine\": \"criu\"", "pages-1.img"],
    )?;

    // Again into the same directory; but nothing of anybody else's is touched.
    to_path()?;
    a.sh("echo mine >/srv/images/precious")?;
    let message = expect::failure("a checkpoint over a file", to_path())?;
    expect::contains("message", &message, &["precious", "/srv/images"])?;
    expect::equal("file", a.sh("cat /srv/images/precious")?.as_str(), "mine")?;
    task.counts_beyond(before)?;

    a.sh("ctr -n k8s.io images ls -q | grep checkpoint | xargs -r ctr -n k8s.io images rm")?;
    ctr(a, "task checkpoint --exit task")?;
    expect::soon("the end of the task", 5, || Ok(task.state()? == "STOPPED"))
}

/// Checkpoint with the root layer, then restore under another name on the same node.
fn ctr_container(testbed: &Testbed) -> Result<()> {
    let (a, ..) = three(testbed)?;
    let task = Task::run(a, "before")?;
    ctr(
        a,
        &format!("containers checkpoint --task --rw --image before {IMAGE}"),
    )?;
    let count = task.count()?;
    let end = if is_old(a)? {
        "task rm -f before"
    } else {
        "task checkpoint --exit before"
    };
    ctr(a, end)?;
    let restored = Task::restore(a, "after", IMAGE)?;
    let now = restored.counts_beyond(1)?;
    ensure!(
        now < count + 50,
        "{now} after the restore, {count} at the checkpoint: it did not go on from there"
    );
    restored.counts_beyond(count)?;
    Ok(())
}

/// The checkpoint's image, exported on one node and imported on another.
fn elsewhere(testbed: &Testbed) -> Result<()> {
    let (a, b, _) = three(testbed)?;
    let count = save(a)?;
    std::fs::copy(a.path(SAVED), b.path(SAVED))?;
    ctr(b, &format!("images import --local --no-unpack {SAVED}"))?;
    let restored = Task::restore(b, "moved", IMAGE)?;
    restored.counts_beyond(count)?;
    Ok(())
}

/// A checkpoint's image in a file on A; answers with its count.
fn save(a: &Node) -> Result<u64> {
    let task = Task::run(a, "origin")?;
    let count = task.count()?;
    ctr(
        a,
        &format!("containers checkpoint --task --rw --image origin {IMAGE}"),
    )?;
    ctr(
        a,
        &format!("images export --skip-manifest-json {SAVED} {IMAGE}"),
    )?;
    Ok(count)
}

/// Each is refused by name, and nothing was started.
fn what_does_not_fit(testbed: &Testbed) -> Result<()> {
    let (a, b, _) = three(testbed)?;
    save(a)?;
    std::fs::write(b.path("/srv/tamper.py"), TAMPER)?;
    std::fs::copy(a.path(SAVED), b.path(SAVED))?;
    for (how, named) in [
        ("cpu", "avx9000"),
        ("engine", "engine other made it"),
        ("content", "the content of pages-1.img"),
        (
            "extra",
            "core-99.img is not in its mycedrive-checkpoint.json",
        ),
        ("link", "parent is not a regular file"),
        ("descriptors", "5 descriptors"),
    ] {
        b.sh(&format!(
            "python3 /srv/tamper.py {how} {SAVED} /srv/tampered.tar"
        ))?;
        ctr(b, "images import --local --no-unpack /srv/tampered.tar")?;
        let task = Task {
            node: b,
            id: "hostile",
        };
        let restore = format!("containers restore --live --rw hostile {IMAGE}");
        let message = expect::failure(how, ctr(b, &restore))?;
        expect::contains(how, &message, &[named])?;
        expect::equal(
            "processes",
            b.sh("pgrep -fc '[c]ount.new' || true")?.as_str(),
            "0",
        )?;
        drop(task);
    }
    Ok(())
}

/// kubelet's archive, with what checkpointctl looks for.
fn cri(testbed: &Testbed) -> Result<()> {
    let (a, ..) = three(testbed)?;
    if is_old(a)? {
        return Err(Skip("containerd 1.7 has no CheckpointContainer".to_owned()).into());
    }
    let pod = Pod::new("shop", "web").container("main", "busybox", &["sh", "-c", COUNT]);
    let pod = a.run_pod(&pod)?;
    let count = || expect::exec(a, &pod, "main", &["cat", "/count"]);
    expect::soon("the first count", 5, || Ok(count().is_ok()))?;
    a.sh("rm -f /srv/cri.tar")?;
    a.cri()?
        .checkpoint_container(pod.id("main"), "/srv/cri.tar")?;
    let files = a.sh("tar -tf /srv/cri.tar")?;
    let wanted = [
        "config.dump",
        "spec.dump",
        "status.dump",
        "status\n",
        "container.log",
        "rootfs-diff.tar",
        "stats-dump",
        "dump.log",
        "checkpoint/inventory.img",
        "checkpoint/pages-1.img",
        "checkpoint/mycedrive-checkpoint.json",
    ];
    expect::contains("archive", &files, &wanted)?;
    let facts = "tar -xOf /srv/cri.tar config.dump spec.dump checkpoint/mycedrive-checkpoint.json";
    let wanted = [
        "\"runtime\":\"io.containerd.mycedrive.v2\"",
        "\"rootfsImage\":\"localhost/busybox:1\"",
        "\"io.kubernetes.cri.container-name\":\"main\"",
        "\"name\": \"main\"",
    ];
    expect::contains("facts", &a.sh(facts)?, &wanted)?;
    let layer = a.sh("tar -xOf /srv/cri.tar rootfs-diff.tar | tar -tz")?;
    expect::contains("root layer", &layer, &["count"])?;
    let shown = a.sh("checkpointctl show /srv/cri.tar
         checkpointctl inspect --stats --metadata --sockets --ps-tree /srv/cri.tar")?;
    let wanted = [
        "io.containerd.mycedrive.v2",
        "localhost/busybox:1",
        "Root FS diff size",
        "Frozen time",
        "Pod name: web",
        "Kubernetes namespace: shop",
        "[1]  sh",
    ];
    expect::contains("checkpointctl", &shown, &wanted)?;
    let before: u64 = count()?.parse()?;
    expect::soon("it goes on", 5, || Ok(count()?.parse::<u64>()? > before))
}

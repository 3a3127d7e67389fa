//! `mycedrive checkpoint`, `inspect` and `restore`: a pod in a file.

use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use mycedrive_integration::workload::redis;
use mycedrive_integration::{Container, ContainerState, Node, Pod, RunningPod, Testbed};

use crate::world::{Scenario, need_daemon, three};
use crate::{engine, expect};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("archive::pod_to_another_node", pod_to_another_node),
        Scenario::new("archive::held", held),
        Scenario::new("archive::what_does_not_fit", what_does_not_fit),
        Scenario::new("archive::encrypted", encrypted),
        Scenario::new("archive::task", task),
        Scenario::new("archive::under_dmtcp", under_dmtcp),
    ]
}

const FILE: &str = "/srv/web.myce";
const GRACE: Duration = Duration::from_secs(1);
/// Counts in its memory, its root layer and its /dev/shm.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; \
                     echo $i >/dev/shm/count; sleep 0.1; done";

fn web() -> Pod {
    Pod::new("shop", "web").container("main", "busybox", &["sh", "-c", COUNT])
}

fn count(node: &Node, pod: &RunningPod, file: &str) -> Result<u64> {
    let text = expect::exec(node, pod, "main", &["cat", file])?;
    text.parse().with_context(|| format!("{file}: {text:?}"))
}

/// Runs the pod on a node and writes it to a new file there.
fn checkpoint(node: &Node, options: &str) -> Result<RunningPod> {
    let pod = node.run_pod(&web())?;
    expect::soon("the count", 10, || {
        Ok(count(node, &pod, "/dev/shm/count").is_ok_and(|count| count > 5))
    })?;
    node.sh(&format!("rm -f {FILE} /var/lib/mycedrive/archives/*/*"))?;
    let said = node.sh(&format!(
        "mycedrive checkpoint shop/web --output {FILE} {options}"
    ))?;
    expect::contains("what was said", &said, &[FILE, "frozen for"])?;
    expect::equal(
        "mode",
        node.sh(&format!("stat -c %a {FILE}"))?.as_str(),
        "600",
    )?;
    Ok(pod)
}

/// The pod goes on; on another node one that waits for the file goes on from it.
fn pod_to_another_node(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = checkpoint(a, "")?;
    let at = count(a, &pod, "/count")?;
    expect::soon("the count after it", 5, || {
        Ok(count(a, &pod, "/count")? > at)
    })?;

    let shown = a.sh(&format!("mycedrive inspect {FILE}"))?;
    let wanted = [
        "shop/web",
        "localhost/busybox:1",
        "rootfs/main",
        "mount/main/dev/shm",
        "images",
    ];
    expect::contains("inspect", &shown, &wanted)?;
    let json = a.sh(&format!("mycedrive inspect --json {FILE}"))?;
    expect::contains("inspect --json", &json, &["\"pod\": \"web\"", "CAP_CHOWN"])?;

    std::fs::copy(a.path(FILE), b.path(FILE))?;
    b.sh("rm -rf /var/lib/mycedrive/archives")?;
    let waiting = web().annotation("mycedrive.io/restore-from", "saved");
    let restored = scope(|scope| {
        let start = scope.spawn(|| b.run_pod(&waiting));
        sleep(Duration::from_secs(1));
        let waits = !start.is_finished();
        let said = b.sh(&format!("mycedrive restore {FILE} --name saved"));
        let restored = start.join().map_err(|_| anyhow!("the start panicked"))??;
        ensure!(waits, "the pod did not wait for its archive");
        expect::contains("restore", &said?, &["mycedrive.io/restore-from: \"saved\""])?;
        Ok(restored)
    })?;
    for file in ["/count", "/dev/shm/count"] {
        let now = count(b, &restored, file)?;
        ensure!(
            (5..at + 100).contains(&now),
            "{file}: {now} on B, {at} just after the checkpoint"
        );
        expect::soon("it counts on", 5, || Ok(count(b, &restored, file)? > now))?;
    }
    b.stop_pod(&restored, GRACE)?;
    a.stop_pod(&pod, GRACE)?;
    Ok(())
}

/// A pod under DMTCP goes on, and on another node one goes on from the file: twice, as an archive
/// stays.
fn under_dmtcp(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    engine::need(a, "dmtcp")?;
    let pod = redis::pod("redis-0", "mycedrive").annotation(engine::ANNOTATION, "dmtcp");
    let source = a.run_pod(&pod)?;
    let redis = |node: &Node, pod: &RunningPod, command: &[&str]| {
        expect::exec(node, pod, "redis", &[&["redis-cli"], command].concat())
    };
    redis::fill(a, &source, 5)?;
    redis(a, &source, &["set", "before", "1"])?;
    let file = "/srv/redis.myce";
    a.sh(&format!("rm -f {file}"))?;
    let said = a.sh(&format!(
        "mycedrive checkpoint shop/redis-0 --output {file}"
    ))?;
    expect::contains("what was said", &said, &[file, "going on"])?;
    expect::equal(
        "after it",
        redis(a, &source, &["set", "after", "1"])?.as_str(),
        "OK",
    )?;
    let shown = a.sh(&format!("mycedrive inspect {file}"))?;
    expect::contains("inspect", &shown, &["DMTCP", "running, dmtcp"])?;

    std::fs::copy(a.path(file), b.path(file))?;
    b.sh(&format!(
        "rm -rf /var/lib/mycedrive/archives; mycedrive restore {file} --name saved"
    ))?;
    for _ in 0..2 {
        let restored = b.run_pod(&pod.clone().annotation("mycedrive.io/restore-from", "saved"))?;
        expect::equal(
            "before",
            redis(b, &restored, &["get", "before"])?.as_str(),
            "1",
        )?;
        expect::equal(
            "after",
            redis(b, &restored, &["get", "after"])?.as_str(),
            "",
        )?;
        expect::equal(
            "size",
            redis(b, &restored, &["dbsize"])?.as_str(),
            redis(
                a,
                &source,
                &["eval", "return redis.call('dbsize') - 1", "0"],
            )?
            .as_str(),
        )?;
        redis(b, &restored, &["set", "after", "2"])?;
        b.stop_pod(&restored, GRACE)?;
    }
    a.stop_pod(&source, GRACE)?;
    Ok(())
}

/// With --hold nothing of the pod runs when the file is there.
fn held(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, ..) = three(testbed)?;
    let pod = checkpoint(a, "--hold")?;
    let state = expect::state(a, &pod, "main")?;
    expect::equal("state", state, ContainerState::ContainerRunning)?;
    let message = expect::failure("exec", expect::exec(a, &pod, "main", &["true"]))?;
    expect::contains("message", &message, &[FILE])?;
    expect::equal(
        "processes",
        a.sh("pgrep -fc '[c]ount.new' || true")?.as_str(),
        "0",
    )?;
    a.stop_pod(&pod, GRACE)?;
    // Here again, from the file.
    a.sh(&format!("mycedrive restore {FILE}"))?;
    let again = a.run_pod(&web().annotation("mycedrive.io/restore-from", "web.myce"))?;
    let now = count(a, &again, "/count")?;
    ensure!(now > 5, "it began anew: {now}");
    Ok(())
}

/// Refused by name; nothing of it runs.
fn what_does_not_fit(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, ..) = three(testbed)?;
    let pod = checkpoint(a, "")?;
    a.stop_pod(&pod, GRACE)?;
    a.sh(&format!("mycedrive restore {FILE}"))?;
    let wider = Container::new("main", "busybox", &["sh", "-c", COUNT]).capability("NET_ADMIN");
    let image = Container::new("main", "python", &["sh", "-c", COUNT]);
    let cases = [
        ("more rights", wider, "CAP_NET_ADMIN"),
        ("another image", image, "was made from image"),
    ];
    let refused = |what: &str, pod: &Pod, named: &str| {
        let message = expect::failure(what, a.run_pod(pod))?;
        expect::contains(what, &message, &[named])?;
        expect::equal(
            "processes",
            a.sh("pgrep -fc '[c]ount.new' || true")?.as_str(),
            "0",
        )
    };
    for (what, container, named) in cases {
        let pod = Pod::new("shop", "web")
            .annotation("mycedrive.io/restore-from", "web.myce")
            .with(container);
        refused(what, &pod, named)?;
    }
    let out = web().annotation("mycedrive.io/restore-from", "../shop/web.myce");
    refused("a path", &out, "restore-from")?;

    // Damaged: by the command, and by the daemon for one that was put there past the command.
    let damage =
        "s=$(stat -c %s {}); printf X | dd of={} bs=1 seek=$((s-100)) conv=notrunc status=none";
    a.sh(&damage.replace("{}", FILE))?;
    let message = expect::failure("restore", a.sh(&format!("mycedrive restore {FILE}")))?;
    expect::contains("message", &message, &[FILE])?;
    a.sh(&format!(
        "cp {FILE} /var/lib/mycedrive/archives/shop/web.myce"
    ))?;
    let damaged = web().annotation("mycedrive.io/restore-from", "web.myce");
    refused("a damaged archive", &damaged, "web.myce")
}

/// With recipients and with a passphrase; `age` itself opens it. Without the key, with another one or after
/// the least change nothing of it is used.
fn encrypted(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    a.sh("rm -rf /srv/keys; mkdir /srv/keys; cd /srv/keys; age-keygen -o one; age-keygen -o two")?;
    let recipient = a.sh("age-keygen -y /srv/keys/one")?;
    let pod = checkpoint(a, &format!("--recipient {recipient}"))?;
    let at = count(a, &pod, "/count")?;
    let opened = format!("age --decrypt -i /srv/keys/one {FILE} | head -c 7");
    expect::equal("what age opens", a.sh(&opened)?.as_str(), "MYCEARC")?;
    expect::contains(
        "inspect",
        &a.sh(&format!(
            "mycedrive inspect --identity /srv/keys/one {FILE}"
        ))?,
        &["shop/web", "rootfs/main"],
    )?;

    a.sh(&format!(
        "cd /srv; size=$(stat -c %s {FILE})
         head -c $((size - 1)) {FILE} >cut.myce
         head -c $((size / 2)) {FILE} >half.myce
         cp {FILE} altered.myce
         printf X | dd of=altered.myce bs=1 seek=$((size / 2)) conv=notrunc status=none
         printf sesame >keys/word"
    ))?;
    for (what, arguments, named) in [
        ("no key", FILE.to_owned(), "--identity"),
        (
            "another key",
            format!("--identity /srv/keys/two {FILE}"),
            "does not open it",
        ),
        (
            "a passphrase",
            format!("--passphrase-file /srv/keys/word {FILE}"),
            "give --identity",
        ),
        (
            "no key's file",
            format!("--identity /etc/hostname {FILE}"),
            "age-keygen",
        ),
        (
            "its last byte is missing",
            "--identity /srv/keys/one /srv/cut.myce".to_owned(),
            "cut.myce",
        ),
        (
            "its half is missing",
            "--identity /srv/keys/one /srv/half.myce".to_owned(),
            "half.myce",
        ),
        (
            "one byte altered",
            "--identity /srv/keys/one /srv/altered.myce".to_owned(),
            "altered.myce",
        ),
    ] {
        for command in ["inspect", "restore"] {
            let what = format!("{command}: {what}");
            let message =
                expect::failure(&what, a.sh(&format!("mycedrive {command} {arguments}")))?;
            expect::contains(&what, &message, &[named])?;
        }
    }
    let stored = "find /var/lib/mycedrive/archives -type f | wc -l";
    expect::equal("archives that were taken in", a.sh(stored)?.as_str(), "0")?;

    std::fs::copy(a.path(FILE), b.path(FILE))?;
    std::fs::copy(a.path("/srv/keys/one"), b.path("/srv/one"))?;
    b.sh(&format!(
        "rm -rf /var/lib/mycedrive/archives
         mycedrive restore --identity /srv/one {FILE} --name sealed; rm /srv/one"
    ))?;
    let restored = b.run_pod(&web().annotation("mycedrive.io/restore-from", "sealed"))?;
    let now = count(b, &restored, "/count")?;
    ensure!((5..at + 100).contains(&now), "{now} on B, {at} on A");
    b.stop_pod(&restored, GRACE)?;

    // The passphrase through a pipe, so that it need not be in a file.
    a.sh(&format!(
        "rm {FILE}; echo sesame | mycedrive checkpoint shop/web --output {FILE} --passphrase-file /dev/stdin"
    ))?;
    let inspect = format!("mycedrive inspect {FILE} --passphrase-file /srv/keys/word");
    expect::contains("with the passphrase", &a.sh(&inspect)?, &["shop/web"])?;
    a.sh("printf Sesame >/srv/keys/word")?;
    let message = expect::failure("another passphrase", a.sh(&inspect))?;
    expect::contains("message", &message, &["does not open it"])?;
    let wrong = format!("mycedrive checkpoint shop/web --output {FILE}.new --recipient age1x");
    let message = expect::failure("no recipient", a.sh(&wrong))?;
    expect::contains("message", &message, &["recipient 1"])?;
    a.sh(&format!(
        "test ! -e {FILE}.new -a ! -e {FILE}.new.partial; rm -r /srv/keys"
    ))?;
    a.stop_pod(&pod, GRACE)?;
    Ok(())
}

/// A task that `ctr` made, under the same id on another node.
fn task(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let ctr = |node: &Node, text: &str| node.sh(&format!("ctr -n k8s.io {text}"));
    let run = |more: &str| {
        format!(
            "run -d --runtime io.containerd.mycedrive.v2 {more} localhost/busybox:1 lone \
             sh -c '{COUNT}'"
        )
    };
    let now = |node: &Node| -> Result<u64> {
        Ok(ctr(node, "task exec --exec-id look lone cat /count")?.parse()?)
    };
    let result = (|| {
        ctr(a, &run(""))?;
        expect::soon("the count", 10, || Ok(now(a).is_ok_and(|now| now > 5)))?;
        a.sh(&format!(
            "rm -f {FILE}; mycedrive checkpoint lone --output {FILE}"
        ))?;
        let at = now(a)?;
        std::fs::copy(a.path(FILE), b.path(FILE))?;
        b.sh(&format!("mycedrive restore {FILE} --name lone"))?;
        ctr(b, &run("--annotation mycedrive.io/restore-from=lone"))?;
        let there = now(b)?;
        ensure!((5..at + 100).contains(&there), "{there} on B, {at} on A");
        expect::soon("it counts on", 5, || Ok(now(b)? > there))
    })();
    for node in [a, b] {
        node.sh("ctr -n k8s.io task rm -f lone || true; ctr -n k8s.io containers rm lone || true")?;
    }
    result
}

//! Volumes that move, and layers of them.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed};

use super::{GRACE, empty_dir, fresh, is_stack, nothing_mounted};
use crate::expect;
use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, need_daemon, three};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("volumes::full_disk", full_disk),
        Scenario::new("volumes::writers_go_on", writers_go_on),
        Scenario::new("volumes::redis_with_aof", redis_with_aof),
        Scenario::new("volumes::rounds_are_chosen", rounds_are_chosen),
        Scenario::new("volumes::broken_link", broken_link),
        Scenario::new("volumes::killed_daemons", killed_daemons),
        Scenario::new("volumes::checkpoint", checkpoint),
        Scenario::new("volumes::source_copy", source_copy),
    ]
}

/// Refused before anything of the pod stands still.
fn full_disk(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("full");
    fresh(&[a, b], &volume)?;
    a.sh(&format!("head -c 40000000 /dev/urandom >{volume}/base"))?;
    // A file system of its own, too small.
    b.sh(&format!("mount -t tmpfs -o size=24m small {volume}"))?;
    let pod = writer("full", &volume);
    let source = a.run_pod(&pod)?;
    let before = ask(a, &source)?;
    let refused = expect::failure(
        "a move to a full disk",
        b.run_pod(&pod.migrate_from(&a.address())),
    );
    let frozen = a.sh("mycedrive migrations --json")?;
    let after = ask(a, &source);
    b.sh(&format!("umount {volume}"))?;
    expect::contains("reason", &refused?, &["MiB free", "volume"])?;
    let all: serde_json::Value = serde_json::from_str(&frozen)?;
    let mut of_pod = all.as_array().into_iter().flatten();
    let stood = of_pod.any(|one| one["pod"] == "full" && one.to_string().contains("\"frozen\""));
    ensure!(!stood, "the pod was frozen: {frozen}");
    ensure!(after? > before, "the writer stands still");
    Ok(())
}

/// Writes in every way, and checks all of it when asked.
const WRITER: &str = r"
import fcntl, mmap, os, time
d = '/data/'
log = os.open(d + 'log', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
gone = os.open(d + 'gone', os.O_RDWR | os.O_CREAT); os.unlink(d + 'gone')
f = open(d + 'mapped', 'w+b'); f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 1 << 20)
lock = open(d + 'lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX)
direct = os.open(d + 'direct', os.O_RDWR | os.O_CREAT | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
base = open(d + 'base', 'r+b')
n = 0
while True:
    os.write(log, b'%d\n' % n); os.write(gone, b'%d\n' % n)
    m[4096:4116] = b'%020d' % n
    page[0:20] = b'%020d' % n; os.pwrite(direct, page, 4096 * (n % 64))
    base.seek(4096 * (n % 512)); base.write(b'%020d' % n); base.flush()
    os.makedirs(d + 'dirs/%d' % (n % 7), exist_ok=True)
    if n % 7 == 3: os.rename(d + 'dirs/3', d + 'dirs/moved'); os.rmdir(d + 'dirs/moved')
    if os.path.exists(d + 'ask'):
        os.unlink(d + 'ask'); bad = []
        if [int(x) for x in open(d + 'log')] != list(range(n + 1)): bad.append('log')
        os.lseek(gone, 0, 0); text = b''
        while True:
            part = os.read(gone, 1 << 20)
            if not part: break
            text += part
        if [int(x) for x in text.split()] != list(range(n + 1)): bad.append('gone')
        if int(open(d + 'mapped', 'rb').read()[4096:4116]) != n: bad.append('mapped')
        if int(os.pread(os.open(d + 'direct', os.O_RDONLY), 20, 4096 * (n % 64))) != n: bad.append('direct')
        for back in range(min(n, 500)):
            if int(os.pread(base.fileno(), 20, 4096 * ((n - back) % 512))) != n - back: bad.append('base'); break
        try: fcntl.flock(open(d + 'lock'), fcntl.LOCK_EX | fcntl.LOCK_NB); bad.append('lock')
        except OSError: pass
        open(d + 'answer.new', 'w').write('%s %d' % (' '.join(bad) or 'ok', n)); os.rename(d + 'answer.new', d + 'answer')
    n += 1; time.sleep(0.003)
";

/// Asks the writer; returns how far it is.
pub(super) fn ask(node: &Node, pod: &RunningPod) -> Result<u64> {
    expect::exec(
        node,
        pod,
        "main",
        &["sh", "-c", "rm -f /data/answer; touch /data/ask"],
    )?;
    let mut answer = String::new();
    expect::soon("the writer's answer", 20, || {
        let found = node.exec_in(pod, "main", &["cat", "/data/answer"])?;
        found.stdout.trim().clone_into(&mut answer);
        Ok(found.code == 0)
    })?;
    let (word, number) = answer.rsplit_once(' ').context("an answer of two words")?;
    ensure!(word == "ok", "the writer lost something: {answer}");
    Ok(number.parse()?)
}

pub(super) fn writer(name: &str, volume: &str) -> Pod {
    Pod::new("shop", name).with(
        Container::new("main", "python", &["python3", "-c", WRITER]).mount(volume, "/data", false),
    )
}

fn writers_go_on(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("writers");
    for plain in [false, true] {
        fresh(&[a, b], &volume)?;
        a.sh(&format!("head -c 4000000 /dev/urandom >{volume}/base"))?;
        let mut pod = writer("writers", &volume);
        if plain {
            pod = pod.annotation("mycedrive.io/volumes", "plain");
        }
        let source = a.run_pod(&pod)?;
        sleep(Duration::from_millis(500));
        ensure!(is_stack(a, &volume)? != plain, "stack: {}", !plain);
        let before = ask(a, &source)?;
        let destination = migrate(a, b, &pod)?;
        ensure!(is_stack(b, &volume)? != plain, "stack on B: {}", !plain);
        let after = ask(b, &destination)?;
        ensure!(
            after > before,
            "the writer went back from {before} to {after}"
        );
        a.stop_pod(&source, GRACE)?;
        sleep(Duration::from_millis(200));
        let last = ask(b, &destination)?;
        ensure!(last > after, "the writer stands still");
        b.stop_pod(&destination, GRACE)?;
        for node in [a, b] {
            ensure!(!is_stack(node, &volume)?, "{} has a stack", node.name());
            nothing_mounted(node)?;
        }
        let lines: u64 = b.sh(&format!("wc -l <{volume}/log"))?.parse()?;
        ensure!(lines > last, "{lines} lines, {last} were seen");
        let kept: u64 = a.sh(&format!("wc -l <{volume}/log"))?.parse()?;
        ensure!(
            kept <= after + 1,
            "A's copy has {kept} lines, it was at {after} on B"
        );
    }
    Ok(())
}

fn redis(name: &str, volume: &str) -> Pod {
    let args = [
        "redis-server",
        "--protected-mode",
        "no",
        "--dir",
        "/data",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
    ];
    Pod::new("shop", name)
        .with(Container::new("redis", "redis", &args).mount(volume, "/data", false))
}

/// With a client, from an emptyDir and from a host path that is named.
fn redis_with_aof(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    for (volume, named) in [(empty_dir("aof"), ""), ("/srv/aof".to_owned(), "/data")] {
        fresh(&[a, b], &volume)?;
        let pod = redis("aof", &volume).annotation("mycedrive.io/volumes", named);
        let source = a.run_pod(&pod)?;
        ensure!(is_stack(a, &volume)?, "{volume} is no stack");
        let client = client(outside, &source.ip)?;
        let destination = migrate(a, b, &pod)?;
        let last = finish(client)?;
        expect::exec(b, &destination, "redis", &["redis-cli", "shutdown"]).ok();
        a.stop_pod(&source, GRACE)?;
        b.stop_pod(&destination, GRACE)?;
        // The file says the same as the memory did.
        let again = b.run_pod(&pod)?;
        expect::soon("Redis from its file", 10, || {
            let counter = b.exec_in(&again, "redis", &["redis-cli", "get", "counter"])?;
            Ok(counter.stdout.trim() == last.to_string())
        })?;
        b.stop_pod(&again, GRACE)?;
    }
    Ok(())
}

/// Rounds of the newest migration at this node, and its bytes.
fn rounds(node: &Node) -> Result<u64> {
    let text = node.sh("mycedrive migrations --json")?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    let events = all[0]["events"].as_array().context("events")?;
    Ok(events
        .iter()
        .filter(|event| event["name"] == "round")
        .count() as u64)
}

fn rounds_are_chosen(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    for wanted in ["0", "1", "2", "auto"] {
        let volume = empty_dir("rounds");
        fresh(&[a, b], &volume)?;
        a.sh(&format!("head -c 4000000 /dev/urandom >{volume}/base"))?;
        let pod = writer("rounds", &volume);
        let source = a.run_pod(&pod)?;
        sleep(Duration::from_millis(300));
        let chosen = pod.clone().annotation("mycedrive.io/volume-rounds", wanted);
        let destination = migrate(a, b, &chosen)?;
        ask(b, &destination)?;
        let count = rounds(b)?;
        match wanted.parse::<u64>() {
            Ok(number) => expect::equal("rounds", count, number)?,
            Err(_) => ensure!(count > 0, "no rounds"),
        }
        a.stop_pod(&source, GRACE)?;
        b.stop_pod(&destination, GRACE)?;
    }
    Ok(())
}

/// The link breaks while the volume is on its way: what has arrived is not sent again.
fn broken_link(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("link");
    fresh(&[a, b], &volume)?;
    a.sh(&format!(
        "for n in 0 1 2 3 4 5 6 7; do head -c 2000000 /dev/urandom >{volume}/part-$n; done; \
         head -c 4000000 /dev/urandom >{volume}/base"
    ))?;
    let pod = writer("link", &volume);
    let source = a.run_pod(&pod)?;
    let before = ask(a, &source)?;
    // About ten seconds for the base.
    let slow = pod.clone().annotation("mycedrive.io/bandwidth", "2MB/s");
    let destination = std::thread::scope(|scope| -> Result<RunningPod> {
        let moving = scope.spawn(|| migrate(a, b, &slow));
        sleep(Duration::from_secs(5));
        b.set_link(false)?;
        // Both ends notice after 15 s.
        sleep(Duration::from_secs(20));
        b.set_link(true)?;
        moving
            .join()
            .map_err(|_| anyhow::anyhow!("the move panicked"))?
    })?;
    let after = ask(b, &destination)?;
    ensure!(
        after > before,
        "the writer went back from {before} to {after}"
    );
    let text = b.sh("mycedrive migrations --json")?;
    expect::contains("the migration", &text, &["the connection broke"])?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    let received: u64 = all
        .as_array()
        .context("migrations")?
        .iter()
        .filter(|one| one["pod"] == "link")
        .filter_map(|one| one["bytes_sent"].as_u64())
        .sum();
    // Base and files are 20 MB that do not compress.
    ensure!(
        received < 34_000_000,
        "{received} bytes were sent for 20 MB"
    );
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    Ok(())
}

/// The daemons are killed while a round is under way; kubelet tries again, and the pod moves.
fn killed_daemons(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("daemons");
    fresh(&[a, b], &volume)?;
    a.sh(&format!("head -c 20000000 /dev/urandom >{volume}/base"))?;
    let pod = writer("daemons", &volume);
    let source = a.run_pod(&pod)?;
    let before = ask(a, &source)?;
    let slow = pod.clone().annotation("mycedrive.io/bandwidth", "4MB/s");
    let destination = std::thread::scope(|scope| -> Result<RunningPod> {
        let moving = scope.spawn(|| migrate(a, b, &slow));
        for node in [b, a] {
            sleep(Duration::from_secs(2));
            node.sh("pkill -KILL -x mycedrive")?;
            node.start_service("mycedrive")?;
        }
        moving
            .join()
            .map_err(|_| anyhow::anyhow!("the move panicked"))?
    })?;
    let after = ask(b, &destination)?;
    ensure!(
        after > before,
        "the writer went back from {before} to {after}"
    );
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    nothing_mounted(a)?;
    nothing_mounted(b)
}

/// A layer that is copied while the pod stands still holds what was written, and the pod goes on.
fn checkpoint(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, _, _) = three(testbed)?;
    let volume = empty_dir("checkpoint");
    fresh(&[a], &volume)?;
    a.sh(&format!("head -c 4000000 /dev/urandom >{volume}/base"))?;
    let source = a.run_pod(&writer("checkpoint", &volume))?;
    let before = ask(a, &source)?;
    a.sh("rm -rf /root/layer && mycedrive volume checkpoint shop/checkpoint main:/data --out /root/layer")?;
    let lines: u64 = a.sh("wc -l </root/layer/log")?.parse()?;
    let mapped: u64 = a
        .sh("tail -c +4097 /root/layer/mapped | head -c 20")?
        .parse()?;
    ensure!(
        lines > before,
        "{lines} lines in the layer, {before} before"
    );
    ensure!(
        mapped + 2 >= lines && mapped <= lines,
        "mapped {mapped}, log {lines}"
    );
    let after = ask(a, &source)?;
    ensure!(after >= lines, "the writer stands still");
    let refused = expect::failure(
        "a second copy to the same place",
        a.sh("mycedrive volume checkpoint shop/checkpoint main:/data --out /root/layer"),
    )?;
    expect::contains("message", &refused, &["/root/layer"])?;
    a.stop_pod(&source, GRACE)?;
    a.sh("rm -rf /root/layer").map(drop).map_err(Into::into)
}

/// The source's copy is kept, or removed when the pod says so.
fn source_copy(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    for (value, kept) in [("keep", true), ("remove", false)] {
        let volume = empty_dir("copy");
        fresh(&[a, b], &volume)?;
        a.sh(&format!("head -c 4000000 /dev/urandom >{volume}/base"))?;
        let pod = writer("copy", &volume).annotation("mycedrive.io/source-volumes", value);
        let source = a.run_pod(&pod)?;
        ask(a, &source)?;
        let destination = migrate(a, b, &pod)?;
        ask(b, &destination)?;
        if !kept {
            expect::soon("an empty copy", 10, || {
                Ok(a.sh(&format!("ls -A {volume}"))?.is_empty())
            })?;
        }
        a.stop_pod(&source, GRACE)?;
        let left = a.sh(&format!("ls {volume}"))?;
        ensure!(left.contains("base") == kept, "{value}: {left}");
        b.stop_pod(&destination, GRACE)?;
    }
    Ok(())
}

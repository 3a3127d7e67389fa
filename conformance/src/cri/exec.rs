//! `ExecSync`, as probes and hooks use it.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use mycedrive_integration::Container;

use super::kube::soon;
use super::{Facts, Kube, code};

const TIME: Duration = Duration::from_secs(30);

pub fn exec(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("exec")?;
    let container = Container::new("main", "busybox", &[])
        .env("COLOUR", "blue")
        .user(1234);
    let id = kube.start(&pod, &container, 0)?;
    let done = kube.cri.exec_sync(
        &id,
        &["sh", "-c", "echo $COLOUR; echo wrong >&2; exit 3"],
        TIME,
    )?;
    facts.add("exec", format!("{done:?}"));
    let done = kube.cri.exec_sync(&id, &["sh", "-c", "kill -9 $$"], TIME)?;
    facts.add("ended by a signal", done.code);
    facts.add("user", kube.exec(&id, &["id", "-u"])?);
    facts.add(
        "missing program",
        code(kube.cri.exec_sync(&id, &["/no/such/program"], TIME))?,
    );
    let count = kube.exec(&id, &["seq", "1", "200000"])?.lines().count();
    facts.add("lines", count);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| kube.exec(&id, &["echo", "here"])))
            .collect();
        all.into_iter().try_for_each(|one| {
            let text = one.join().map_err(|_| anyhow!("a thread panicked"))??;
            ensure!(text == "here", "{text}");
            Ok(())
        })
    })?;
    // A command that leaves a child behind.
    let left = "sleep 1000000 >/dev/null 2>&1 & echo left";
    let done = kube.cri.exec_sync(&id, &["sh", "-c", left], TIME)?;
    facts.add(
        "with a child left behind",
        format!("{} {}", done.code, done.stdout.trim()),
    );
    // Without a pipe, whose commands begin one after the other.
    let count = ["sh", "-c", "set -- /proc/[0-9]*; echo $#"];
    facts.add("pids", kube.exec(&id, &count)?);
    kube.remove(&pod)
}

pub fn probe(kube: &mut Kube, facts: &mut Facts) -> Result<()> {
    let pod = kube.sandbox("probe")?;
    let id = kube.script(&pod, "main", "sleep 1000000")?;
    facts.add("success", kube.cri.exec_sync(&id, &["true"], TIME)?.code);
    facts.add("failure", kube.cri.exec_sync(&id, &["false"], TIME)?.code);
    let second = Duration::from_secs(1);
    let begin = Instant::now();
    let late = kube
        .cri
        .exec_sync(&id, &["sh", "-c", "echo begun; sleep 1000000"], second);
    facts.add("over its time", code(late)?);
    ensure!(
        begin.elapsed() < TIME,
        "the time-out took {:?}",
        begin.elapsed()
    );
    // The command is gone, not only given up.
    soon("the end of the command", || {
        let pids = kube.exec(&id, &["sh", "-c", "ls /proc | grep -c '^[0-9]'"])?;
        // Init, the shell, ls and grep.
        Ok(pids == "4")
    })?;
    for _ in 0..5 {
        ensure!(
            kube.cri.exec_sync(&id, &["true"], TIME)?.code == 0,
            "a probe failed"
        );
    }
    kube.cri.stop_container(&id, Duration::ZERO)?;
    facts.add(
        "ended container",
        code(kube.cri.exec_sync(&id, &["true"], TIME))?,
    );
    let created = kube.create(&pod, &Container::new("created", "busybox", &[]), 0)?;
    facts.add(
        "created container",
        code(kube.cri.exec_sync(&created, &["true"], TIME))?,
    );
    kube.remove(&pod)
}

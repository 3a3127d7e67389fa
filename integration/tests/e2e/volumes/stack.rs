//! Stacks on one node.

use anyhow::{Result, ensure};
use mycedrive_integration::{Container, Pod, Testbed};

use super::{GRACE, empty_dir, fresh, is_stack, nothing_mounted};
use crate::expect;
use crate::world::{Scenario, need_daemon, three};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("volumes::stack_on_one_node", stack_on_one_node),
        Scenario::new("volumes::killed_shim", killed_shim),
        Scenario::new("volumes::sub_path", sub_path),
        Scenario::new("volumes::as_kubelet_sees_it", as_kubelet_sees_it),
        Scenario::new("volumes::plain_with_a_reason", plain_with_a_reason),
    ]
}

/// Two containers share a stack; a restart of one keeps it; du sees what they use; at the end it
/// is a directory again, with everything.
fn stack_on_one_node(testbed: &Testbed) -> Result<()> {
    let (a, _, _) = three(testbed)?;
    let volume = empty_dir("shared");
    fresh(&[a], &volume)?;
    a.sh(&format!("echo before >{volume}/base"))?;
    let idle = ["sh", "-c", "exec tail -f /dev/null"];
    let pod = Pod::new("shop", "shared")
        .with(Container::new("one", "busybox", &idle).mount(&volume, "/data", false))
        .with(Container::new("two", "busybox", &idle).mount(&volume, "/other", false));
    let mut running = a.run_pod(&pod)?;
    ensure!(is_stack(a, &volume)?, "the volume is no stack");
    let script = "cat /data/base; mkdir /data/d; head -c 3000000 /dev/zero >/data/d/file";
    expect::equal(
        "base",
        expect::exec(a, &running, "one", &["sh", "-c", script])?.as_str(),
        "before",
    )?;
    let size = expect::exec(a, &running, "two", &["stat", "-c", "%s", "/other/d/file"])?;
    expect::equal("size", size.as_str(), "3000000")?;
    let used: u64 = a.sh(&format!("du -sk {volume} | cut -f1"))?.parse()?;
    ensure!(used >= 2900, "kubelet would see {used} KiB");
    let attributes = a.sh(&format!("stat -c %a {volume}"))?;
    expect::equal("mode", attributes.as_str(), "777")?;
    a.cri()?.stop_container(running.id("one"), GRACE)?;
    ensure!(is_stack(a, &volume)?, "folded while it was in use");
    a.start_container(&mut running, &pod.containers()[0], 1)?;
    expect::exec(a, &running, "one", &["rm", "/data/base"])?;
    a.stop_pod(&running, GRACE)?;
    let left = a.sh(&format!("cd {volume} && find . | sort && stat -c %a ."))?;
    expect::equal("the volume", left.as_str(), ".\n./d\n./d/file\n777")?;
    nothing_mounted(a)
}

/// A shim that is killed leaves the stack to the one that cleans up.
fn killed_shim(testbed: &Testbed) -> Result<()> {
    let (a, _, _) = three(testbed)?;
    let volume = empty_dir("killed");
    fresh(&[a], &volume)?;
    let script = "echo kept >/data/file; exec tail -f /dev/null";
    let pod = Pod::new("shop", "killed").with(
        Container::new("main", "busybox", &["sh", "-c", script]).mount(&volume, "/data", false),
    );
    let running = a.run_pod(&pod)?;
    expect::soon("the file", 10, || {
        Ok(a.exec_in(&running, "main", &["test", "-e", "/data/file"])?
            .code
            == 0)
    })?;
    a.sh("pkill -KILL -f 'containerd-shim-[m]ycedrive'")?;
    expect::soon("a plain directory", 20, || {
        Ok(a.sh(&format!("cat {volume}/file 2>/dev/null || true"))? == "kept")
    })?;
    // CRI learns a moment later that the container has ended.
    expect::soon("the pod's end", 20, || Ok(a.remove_pod(&running).is_ok()))?;
    nothing_mounted(a)
}

/// subPath mounts, as kubelet makes them before the container is created.
fn sub_path(testbed: &Testbed) -> Result<()> {
    let (a, _, _) = three(testbed)?;
    let volume = empty_dir("parts");
    fresh(&[a], &volume)?;
    let part = "/var/lib/kubelet/pods/parts/volume-subpaths/data/main/0";
    a.sh(&format!(
        "mkdir -p {volume}/in/side {part} && mount --bind {volume}/in/side {part}"
    ))?;
    let script = "echo x >/part/file; exec tail -f /dev/null";
    let pod = Pod::new("shop", "parts").with(
        Container::new("main", "busybox", &["sh", "-c", script])
            .mount(&volume, "/data", false)
            .mount(part, "/part", false),
    );
    let running = a.run_pod(&pod)?;
    let result = expect::soon("the file, seen through both mounts", 10, || {
        let command = ["cat", "/data/in/side/file"];
        Ok(a.exec_in(&running, "main", &command)?.stdout.trim() == "x")
    });
    a.stop_pod(&running, GRACE)?;
    a.sh(&format!("umount {part}"))?;
    result?;
    let text = a.sh(&format!("cat {volume}/in/side/file"))?;
    expect::equal("the file", text.as_str(), "x")?;
    nothing_mounted(a)
}

/// fsGroup as kubelet sets it (a group that the setgid bit hands on), and what `du` counts for
/// emptyDir.sizeLimit: on A, on B and at the end.
fn as_kubelet_sees_it(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let volume = empty_dir("group");
    fresh(&[a, b], &volume)?;
    for node in [a, b] {
        node.sh(&format!("chgrp 2000 {volume} && chmod 2777 {volume}"))?;
    }
    let script = "mkdir /data/d; head -c 3000000 /dev/urandom >/data/d/file; \
         touch /data/ready; exec tail -f /dev/null";
    let pod = Pod::new("shop", "group").with(
        Container::new("main", "busybox", &["sh", "-c", script])
            .user(1000)
            .mount(&volume, "/data", false),
    );
    let source = a.run_pod(&pod)?;
    expect::soon("the file", 10, || {
        Ok(a.exec_in(&source, "main", &["test", "-e", "/data/ready"])?
            .code
            == 0)
    })?;
    let destination = crate::migration::migrate(a, b, &pod)?;
    let script =
        "head -c 2000000 /dev/urandom >/data/d/more; stat -c '%u %g %a' /data /data/d /data/d/more";
    let seen = expect::exec(b, &destination, "main", &["sh", "-c", script])?;
    let owners = "0 2000 2777\n1000 2000 2755\n1000 2000 644";
    expect::equal("owners on B", seen.as_str(), owners)?;
    for (node, least) in [(a, 2900), (b, 4800)] {
        ensure!(is_stack(node, &volume)?, "{} has no stack", node.name());
        let used: u64 = node.sh(&format!("du -sk {volume} | cut -f1"))?.parse()?;
        let name = node.name();
        ensure!(
            (least..least + 400).contains(&used),
            "kubelet on {name} would see {used} KiB"
        );
    }
    a.stop_pod(&source, GRACE)?;
    b.stop_pod(&destination, GRACE)?;
    let left = b.sh(&format!(
        "cd {volume} && stat -c '%u %g %a' . d d/more && du -sk . | cut -f1"
    ))?;
    expect::contains("B's directory", &left, &[owners])?;
    nothing_mounted(a)?;
    nothing_mounted(b)
}

fn plain_with_a_reason(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, _, _) = three(testbed)?;
    let idle = ["sh", "-c", "exec tail -f /dev/null"];
    let volume = empty_dir("plain");
    for (annotation, prepare, reason) in [
        ("plain", "true", "says plain"),
        ("", "echo x >one && ln one two", "hard links"),
        ("", "mount -t tmpfs tmpfs .", "memory"),
    ] {
        fresh(&[a], &volume)?;
        a.sh(&format!("cd {volume} && {prepare}"))?;
        let pod = Pod::new("shop", "plain")
            .annotation("mycedrive.io/volumes", annotation)
            .with(Container::new("main", "busybox", &idle).mount(&volume, "/data", false));
        let running = a.run_pod(&pod)?;
        let shown = a.sh("mycedrive ps --json")?;
        a.stop_pod(&running, GRACE)?;
        a.sh(&format!("umount {volume} 2>/dev/null || true"))?;
        expect::contains("mycedrive ps", &shown, &["/data", reason])?;
    }
    Ok(())
}

//! Processes inside vfork, which CRIU cannot dump.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mycedrive_integration::{Pod, Testbed};

use crate::expect;
use crate::migration::migrate;
use crate::world::{Scenario, need_daemon, three};

/// A child of vfork opens a FIFO that has no reader yet, so that its parent waits inside vfork:
/// most of the time (`often`), or for good.
const PROGRAM: &str = "
import os, sys, time
os.mkfifo('/tmp/fifo')
if sys.argv[1] == 'often' and os.fork() == 0:
    while True:
        time.sleep(0.02)
        os.close(os.open('/tmp/fifo', os.O_RDONLY))
open('/tmp/ready', 'w').close()
count = 0
while True:
    action = (os.POSIX_SPAWN_OPEN, 1, '/tmp/fifo', os.O_WRONLY, 0)
    os.waitpid(os.posix_spawn('/bin/true', ['true'], {}, file_actions=[action]), 0)
    count += 1
    open('/tmp/count.new', 'w').write(str(count)); os.rename('/tmp/count.new', '/tmp/count')
    time.sleep(0.004)
";

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("faults::vfork::often", often),
        Scenario::new("faults::vfork::for_good", for_good),
    ]
}

fn pod(how: &str) -> Pod {
    Pod::new("shop", "vfork").container("main", "python", &["python3", "-c", PROGRAM, how])
}

fn often(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = pod("often");
    let source = a.run_pod(&pod)?;
    let count = |node, pod| -> Result<u64> {
        Ok(expect::exec(node, pod, "main", &["cat", "/tmp/count"])?.parse()?)
    };
    expect::soon("children", 10, || Ok(count(a, &source).unwrap_or(0) > 3))?;
    let before = count(a, &source)?;
    let there = migrate(a, b, &pod)?;
    expect::soon("more children", 10, || {
        Ok(count(b, &there).unwrap_or(0) > before)
    })
}

/// It cannot move; it goes on, and the reason is said soon.
fn for_good(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = pod("never");
    let source = a.run_pod(&pod)?;
    expect::soon("the child", 10, || {
        Ok(a.exec_in(&source, "main", &["test", "-e", "/tmp/ready"])?
            .code
            == 0)
    })?;
    let began = Instant::now();
    let message = expect::failure(
        "the migration",
        b.run_pod_within(&pod.migrate_from(&a.address()), Duration::ZERO),
    )?;
    expect::contains("reason", &message, &["vfork"])?;
    ensure!(
        began.elapsed() < Duration::from_secs(20),
        "it took {began:?}"
    );
    expect::soon("the source", 5, || {
        Ok(a.exec_in(&source, "main", &["true"])?.code == 0)
    })
}

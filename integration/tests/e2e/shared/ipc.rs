//! System V IPC between two containers of a pod, and POSIX message queues.

use std::time::Duration;

use anyhow::{Result, ensure};
use mycedrive_handover::fault::FaultPoint;
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed};

use crate::expect;
use crate::migration::migrate;
use crate::world::{Scenario, need_daemon, three};

const PROGRAM: &str = include_str!("ipc.py");
const GRACE: Duration = Duration::from_secs(1);
const BOTH: [&str; 2] = ["one", "two"];

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("shared::ipc::there_and_back", there_and_back),
        Scenario::new("shared::ipc::second_try", second_try),
        Scenario::new("shared::ipc::memory_of_both", memory_of_both),
        Scenario::new("shared::ipc::posix_queue", posix_queue),
    ]
}

fn pod(more: &[&str]) -> Pod {
    let container = |role: &str| {
        let args = [&["python3", "-c", PROGRAM, role], more].concat();
        Container::new(role, "python", &args)
    };
    Pod::new("shop", "ipc")
        .with(container("one"))
        .with(container("two"))
}

fn count(node: &Node, pod: &RunningPod) -> Result<u64> {
    Ok(expect::exec(node, pod, "two", &["cat", "/dev/shm/two"])?.parse()?)
}

fn goes_on(node: &Node, pod: &RunningPod, containers: &[&str], from: u64) -> Result<u64> {
    let mut now = 0;
    expect::soon("more messages", 10, || {
        now = count(node, pod).unwrap_or(0);
        Ok(now > from + 50)
    })?;
    for container in containers {
        expect::exec(node, pod, container, &["true"])?;
    }
    Ok(now)
}

/// The queue is full of messages that were not received yet, and the semaphore is as high.
fn there_and_back(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = pod(&[]);
    let first = a.run_pod(&pod)?;
    let before = goes_on(a, &first, &BOTH, 0)?;
    let second = migrate(a, b, &pod)?;
    let middle = goes_on(b, &second, &BOTH, before)?;
    let namespaces =
        |container| expect::exec(b, &second, container, &["readlink", "/proc/1/ns/ipc"]);
    expect::equal("the namespace", namespaces("one")?, namespaces("two")?)?;
    a.stop_pod(&first, GRACE)?;
    let third = migrate(b, a, &pod)?;
    goes_on(a, &third, &BOTH, middle)?;
    b.stop_pod(&second, GRACE)?;
    Ok(())
}

/// What the first restore made in the sandbox's namespace is not in the way of the second one.
fn second_try(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let args = ["python3", "-c", PROGRAM, "alone"];
    let pod = Pod::new("shop", "ipc").container("two", "python", &args);
    let first = a.run_pod(&pod)?;
    let before = goes_on(a, &first, &["two"], 0)?;
    let point = FaultPoint::ShimDestinationDuringRestore.name();
    b.arm_fault(point, "error-once")?;
    let second = migrate(a, b, &pod)?;
    ensure!(!b.fault_armed(point), "the first restore did not fail");
    goes_on(b, &second, &["two"], before).map(drop)
}

fn refused(testbed: &Testbed, pod: &Pod, ready: &[&str], parts: &[&str]) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let source = a.run_pod(pod)?;
    let first = pod.containers()[0].name().to_owned();
    expect::soon("the programs", 10, || {
        let test = ready.iter().map(|file| format!("test -e {file}"));
        let test = test.collect::<Vec<_>>().join(" && ");
        Ok(a.exec_in(&source, &first, &["sh", "-c", &test])?.code == 0)
    })?;
    let arriving = pod.migrate_from(&a.address());
    let message = expect::failure("the move", b.run_pod_within(&arriving, Duration::ZERO))?;
    expect::contains("message", &message, parts)?;
    expect::exec(a, &source, &first, &["true"]).map(drop)
}

/// CRIU attaches shared memory for one container only.
fn memory_of_both(testbed: &Testbed) -> Result<()> {
    let ready = ["/dev/shm/ready-one", "/dev/shm/ready-two"];
    let parts = ["containers one and two", "shared memory"];
    refused(testbed, &pod(&["attach"]), &ready, &parts)
}

/// CRIU would not see what is in it.
fn posix_queue(testbed: &Testbed) -> Result<()> {
    const QUEUE: &str = "
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mq_open(b'/jobs', 0o102, 0o600, None) >= 0, ctypes.get_errno()
open('/dev/shm/ready', 'w').close()
time.sleep(1000)
";
    let pod = Pod::new("shop", "queue").container("main", "python", &["python3", "-c", QUEUE]);
    let parts = ["container main", "/jobs", "message queue"];
    refused(testbed, &pod, &["/dev/shm/ready"], &parts)
}

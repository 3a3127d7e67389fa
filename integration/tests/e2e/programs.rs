//! Programs that move while a client counts in them, also those that do not run as root.

use std::time::Duration;

use anyhow::Result;
use mycedrive_integration::workload::client::Client;
use mycedrive_integration::{Container, Node, Pod, RunningPod, Testbed, lacks_sys_resource};

use crate::expect;
use crate::migration::{client, finish, migrate};
use crate::world::{Scenario, Skip, need_daemon, three};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("programs::python_of_another_user", python_of_another_user),
        Scenario::new("programs::redis_of_another_user", redis_of_another_user),
        Scenario::new(
            "programs::another_user_without_the_capability",
            without_the_capability,
        ),
        Scenario::new("programs::io_uring", io_uring),
    ]
}

/// The client works this long before a move.
const SETTLE: Duration = Duration::from_millis(400);
const ASYNCIO: &str = include_str!("../../src/image/programs/counter_asyncio.py");

/// `runAsUser: 1000`.
fn python_of_another_user(testbed: &Testbed) -> Result<()> {
    let container = Container::new("main", "python", &["python3", "-c", ASYNCIO]).user(1000);
    let (b, pod) = counts_through(testbed, &Pod::new("shop", "python").with(container))?;
    expect::equal(
        "user",
        expect::exec(b, &pod, "main", &["id", "-u"])?.as_str(),
        "1000",
    )
}

/// The image's own `User`.
fn redis_of_another_user(testbed: &Testbed) -> Result<()> {
    let pod = Pod::new("shop", "redis-0").container("redis", "redis-user", &[]);
    let (b, _) = counts_through(testbed, &pod)?;
    let owner = b.sh("ps -o user:20= -p $(pgrep -x redis-server)")?;
    expect::equal("user", owner.trim(), "999")
}

/// Moves a pod from A to B while a client counts in it over one connection.
fn counts_through<'a>(testbed: &'a Testbed, pod: &Pod) -> Result<(&'a Node, RunningPod)> {
    need_daemon(testbed)?;
    let (a, b, outside) = three(testbed)?;
    let source = a.run_pod(pod)?;
    // Not all that counts answers a ping.
    expect::soon("an answer of the counter", 20, || {
        Ok(outside
            .sh(&format!("redis-cli -h {} incr counter", source.ip))
            .is_ok_and(|answer| answer.parse::<u64>().is_ok()))
    })?;
    let client = Client::start(outside, &Client::program()?, source.ip.parse()?)?;
    std::thread::sleep(SETTLE);
    let destination = migrate(a, b, pod)?;
    finish(client)?;
    Ok((b, destination))
}

/// Where CRIU may not read the limits of other users' processes, the pod is refused with that reason.
fn without_the_capability(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    if !lacks_sys_resource() {
        return Err(Skip("this machine gives CAP_SYS_RESOURCE".to_owned()).into());
    }
    let (a, b, outside) = three(testbed)?;
    let pod = Pod::new("shop", "redis-0").container("redis", "redis-user", &[]);
    let source = a.run_pod(&pod)?;
    let client = client(outside, &source.ip)?;
    let library = "/usr/local/lib/libmycedrive_prlimit.so";
    a.sh(&format!("mv {library} {library}.off"))?;
    let refused = b.run_pod(&pod.migrate_from(&a.address()));
    a.sh(&format!("mv {library}.off {library}"))?;
    let message = expect::failure("the arrival", refused)?;
    expect::contains("message", &message, &["CAP_SYS_RESOURCE", "redis", "999"])?;
    finish(client).map(drop)
}

/// Makes a ring (io_uring_setup(2), number 425 everywhere) and writes its descriptor, or the error.
const RING: &str = "
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))
open('/tmp/new', 'w').write(str(ring if ring >= 0 else -ctypes.get_errno())); os.rename('/tmp/new', '/tmp/ring')
time.sleep(1000)
";

/// A process with a ring is refused before anything is touched.
fn io_uring(testbed: &Testbed) -> Result<()> {
    need_daemon(testbed)?;
    let (a, b, _) = three(testbed)?;
    let pod = Pod::new("shop", "ring").container("main", "python", &["python3", "-c", RING]);
    let source = a.run_pod(&pod)?;
    let mut ring = String::new();
    expect::soon("the ring", 10, || {
        ring = a.exec_in(&source, "main", &["cat", "/tmp/ring"])?.stdout;
        Ok(!ring.is_empty())
    })?;
    if ring.starts_with('-') {
        return Err(Skip(format!("no io_uring in containers here (error {ring})")).into());
    }
    let message = expect::failure("the arrival", b.run_pod(&pod.migrate_from(&a.address())))?;
    expect::contains("message", &message, &["main", "io_uring"])
}

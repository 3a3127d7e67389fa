//! What the demo does: a pod with Redis and a client on a third node, moved by engines and by kill-and-start.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use mycedrive_integration::workload::client::{Client, now_ns};
use mycedrive_integration::workload::{migrations, redis};
use mycedrive_integration::{Node, Testbed};

use crate::engine::{ANNOTATION, verify};
use crate::figures::{Figures, Span};
use crate::print;

/// The client runs this long before and after the move.
const SETTLE: Duration = Duration::from_secs(2);
/// kubelet gives up later than this.
const START_TIME: Duration = Duration::from_secs(300);

/// Moves Redis live from the first node to the second, by `engine` and no other one.
pub fn migrate(testbed: &Testbed, engine: &str, megabytes: u64) -> Result<Figures> {
    let (a, b, client_node) = (
        testbed.node("a")?,
        testbed.node("b")?,
        testbed.node("client")?,
    );
    let pod = redis::pod("redis-0", "mycedrive").annotation(ANNOTATION, engine);
    let source = a.run_pod(&pod)?;
    println!(
        "  Redis runs in pod shop/redis-0 on node-a, address {}",
        source.ip
    );
    redis::fill(a, &source, megabytes)?;
    let client = Client::start(client_node, &Client::program()?, source.ip.parse()?)?;
    std::thread::sleep(SETTLE);
    verify(a, &source, engine)?;

    println!("  a pod with mycedrive.io/migrate-from starts on node-b");
    let from_ns = now_ns();
    let destination = with_progress_bar(b, from_ns, || {
        b.run_pod_within(&pod.migrate_from(&a.address()), START_TIME)
    });
    let span = Span {
        from_ns,
        to_ns: now_ns(),
    };
    let destination = destination?;
    verify(b, &destination, engine)?;
    println!(
        "  the pod runs on node-b, its own address is {}",
        destination.ip
    );
    std::thread::sleep(SETTLE);

    let report = client.finish()?;
    let progress = migrations::newest(b)?;
    for (node, pod) in [(a, &source), (b, &destination)] {
        node.stop_pod(pod, Duration::from_secs(1))?;
    }
    Ok(Figures::new(engine, &report, span, Some(&progress)))
}

/// The same pod under runc: killed on the first node, started on the second from its image. The
/// client is told the new address at once; in a cluster that takes a Service some time.
pub fn kill_and_start(testbed: &Testbed) -> Result<Figures> {
    let (a, b, client_node) = (
        testbed.node("a")?,
        testbed.node("b")?,
        testbed.node("client")?,
    );
    let pod = redis::pod("redis-1", "runc");
    let source = a.run_pod(&pod)?;
    let client = Client::start(client_node, &Client::program()?, source.ip.parse()?)?;
    std::thread::sleep(SETTLE);
    let from_ns = now_ns();
    a.stop_pod(&source, Duration::from_secs(1))?;
    let destination = b.run_pod(&pod)?;
    client.point_to(destination.ip.parse()?)?;
    let span = Span {
        from_ns,
        to_ns: now_ns(),
    };
    std::thread::sleep(SETTLE);
    let report = client.finish()?;
    b.stop_pod(&destination, Duration::from_secs(1))?;
    Ok(Figures::new("kill-and-start", &report, span, None))
}

/// Runs `work` and shows meanwhile how far the newest migration to `node` is, if it began after
/// `from_ns`.
fn with_progress_bar<T: Send>(node: &Node, from_ns: u64, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut shown = String::new();
        while !work.is_finished() {
            std::thread::sleep(Duration::from_millis(200));
            let Ok(progress) = migrations::newest(node) else {
                continue;
            };
            if progress.started_ns < from_ns {
                continue;
            }
            let line = format!(
                "  {} {}",
                print::bar(progress.percent(), 30),
                progress.phase.words()
            );
            if line != shown {
                println!("{line}");
                let _ = std::io::stdout().flush();
                shown = line;
            }
        }
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

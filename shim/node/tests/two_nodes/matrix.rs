//! Each side killed, or failing once, at every numbered fault point.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mycedrive_proto::node::arrive_reply::Outcome;
use mycedrive_proto::shim::ContainerState;

use super::{LONG, Pair, outcome};

/// Fault points of the daemons at which they are killed, started again, and asked again.
const SOURCE_POINTS: &[&str] = &[
    "source-before-open",
    "source-after-open-recorded",
    "source-before-copy",
    "source-during-copy",
    "source-after-copy",
    "source-before-freeze-recorded",
    "source-before-freeze",
    "source-after-freeze",
    "source-before-dump",
    "source-during-images",
    "source-after-dump",
    "source-before-final-trees",
    "source-before-final-end",
    "source-after-final",
    "source-before-offer-recorded",
    "source-after-offer-recorded",
    "source-before-conclude-recorded",
    "source-after-commit-recorded",
    "source-after-discard",
];
const DESTINATION_POINTS: &[&str] = &[
    "destination-after-open-recorded",
    "destination-after-open",
    "destination-during-copy",
    "destination-after-copy",
    "destination-after-adopt",
    "destination-before-freeze",
    "destination-during-images",
    "destination-after-verify",
    "destination-before-offer",
    "destination-after-offer",
    "destination-before-restore",
    "destination-after-restore",
    "destination-before-run-recorded",
    "destination-before-run",
    "destination-after-run",
    "destination-before-conclude",
    "destination-after-conclude",
    "destination-relay-start",
    "destination-after-abort-recorded",
    "destination-after-undo",
];

/// One line of the matrix: what the pod came to, and whether it was one pod all the time.
async fn broken_at(point: &str, order: &str) -> &'static str {
    let pair = Pair::new("").await;
    let source = point.starts_with("source-");
    if point.ends_with("abort-recorded") || point.ends_with("after-undo") {
        pair.new.fail_restore.store(true, Ordering::Relaxed);
    }
    let node = if source { &pair.a } else { &pair.b };
    node.arm(point, order);
    // Start is asked again, as kubelet does, until it is not refused.
    let mut refused = String::new();
    for _ in 0..6 {
        let (annotations, shim) = ([("migrate-from", pair.from())], pair.new.clone());
        let reply = {
            let start = pair.b.arrive(&shim, &pair.container, &annotations, LONG);
            tokio::pin!(start);
            loop {
                tokio::select! {
                    reply = &mut start => break Some(reply),
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
                if pair.dead(source) {
                    break None;
                }
            }
        };
        if pair.dead(source) {
            pair.revive(source).await;
        }
        match reply {
            None => {}
            Some(reply) if outcome(&reply) == Outcome::OUTCOME_RUNNING => break,
            Some(reply) => {
                refused = reply.message;
                if order == "error-once" || !pair.armed(point, source) {
                    pair.new.fail_restore.store(false, Ordering::Relaxed);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let deadline = Instant::now() + LONG;
    loop {
        if pair.dead(source) {
            pair.revive(source).await;
        }
        let world = pair.world.lock().unwrap().clone();
        assert!(!world.twice, "{point}: the pod ran twice: {world:?}");
        let held = pair.old.pod().containers[0].state.enum_value_or_default()
            == ContainerState::CONTAINER_STATE_HELD;
        let end = match world.runs {
            [false, true] if held => Some("completed"),
            [true, false] if !refused.is_empty() => Some("rolled back"),
            _ => None,
        };
        // Some points come after the pod has moved.
        let armed = pair.armed(point, source);
        if let Some(end) = end.filter(|_| !armed) {
            return end;
        }
        assert!(
            Instant::now() < deadline,
            "{point}: armed: {armed}, {end:?} ({refused}): {world:?}\n--- a\n{}\n--- b\n{}",
            pair.a.log(),
            pair.b.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Pair {
    pub(super) fn dead(&self, source: bool) -> bool {
        if source { self.a.died() } else { self.b.died() }
    }

    pub(super) async fn revive(&self, source: bool) {
        let node = if source { &self.a } else { &self.b };
        node.kill();
        node.start().await;
    }

    fn armed(&self, point: &str, source: bool) -> bool {
        let node = if source { &self.a } else { &self.b };
        node.dir.join("fault").join(point).exists()
    }
}

async fn matrix(points: &[&str], order: &str) {
    for four in points.chunks(4) {
        let rows = four.iter().map(|point| async move {
            let began = Instant::now();
            let outcome = broken_at(point, order).await;
            (point, outcome, began.elapsed())
        });
        for (point, outcome, took) in futures::future::join_all(rows).await {
            eprintln!(
                "{order:<10} {point:<36} {outcome:<12} {} ms",
                took.as_millis()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_killed_at_any_step() {
    matrix(SOURCE_POINTS, "kill").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_killed_at_any_step() {
    matrix(DESTINATION_POINTS, "kill").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_once() {
    matrix(SOURCE_POINTS, "error-once").await;
    matrix(DESTINATION_POINTS, "error-once").await;
}

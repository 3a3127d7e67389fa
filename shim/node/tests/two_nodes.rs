//! Two daemons, as processes, with shims and containerd played by the test: migrations that
//! succeed, that are refused, and that are broken at every step.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "two_nodes/fake.rs"]
mod fake;
#[path = "two_nodes/matrix.rs"]
mod matrix;
#[path = "two_nodes/node.rs"]
mod node;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fake::{Shared, Shim};
use mycedrive_proto::node::ArriveReply;
use mycedrive_proto::node::arrive_reply::Outcome;
use mycedrive_proto::shim::{Container, ContainerState};
use node::Node;

const LONG: Duration = Duration::from_secs(30);

/// Two nodes, a pod with one container on A, its counterpart on B.
struct Pair {
    root: tempfile::TempDir,
    a: Node,
    b: Node,
    world: Shared,
    old: Shim,
    new: Shim,
    container: Container,
    _servers: Vec<ttrpc::r#async::Server>,
}

impl Pair {
    async fn new(more: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let world = Shared::default();
        let a = Node::new(root.path(), "node-a", more).await;
        let b = Node::new(root.path(), "node-b", more).await;
        let old = Shim::new(&world, 0, "redis-0", root.path());
        let new = Shim::new(&world, 1, "redis-1", root.path());
        let upper = root.path().join("upper-a");
        let running = ContainerState::CONTAINER_STATE_RUNNING;
        old.container("app", "redis@a", running, &upper);
        std::fs::create_dir_all(upper.join("data")).unwrap();
        std::fs::write(upper.join("data/file"), "content").unwrap();
        let waiting = ContainerState::CONTAINER_STATE_WAITING;
        let upper = root.path().join("upper-b");
        let container = new.container("app", "redis@b", waiting, &upper);
        let servers = vec![
            old.serve(&a.dir.join("run")).await,
            new.serve(&b.dir.join("run")).await,
        ];
        Self {
            root,
            a,
            b,
            world,
            old,
            new,
            container,
            _servers: servers,
        }
    }

    fn from(&self) -> String {
        format!("127.0.0.1:{}/shop/redis-0", self.a.port)
    }

    async fn start(&self) -> ArriveReply {
        let annotations = [("migrate-from", self.from())];
        self.b
            .arrive(&self.new, &self.container, &annotations, LONG)
            .await
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    async fn until(&self, what: &str, check: impl Fn(&fake::World) -> bool) {
        let deadline = Instant::now() + LONG;
        while !check(&self.world.lock().unwrap()) {
            assert!(
                Instant::now() < deadline,
                "never {what}: {:?}\n--- a\n{}\n--- b\n{}",
                self.world.lock().unwrap(),
                self.a.log(),
                self.b.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn outcome(reply: &ArriveReply) -> Outcome {
    reply.outcome.enum_value_or_default()
}

fn empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_moves() {
    let pair = Pair::new("").await;
    let reply = pair.start().await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_RUNNING,
        "{}",
        reply.message
    );
    assert_eq!(pair.new.memory("app"), Some(vec![7; 300_000]));
    let file = std::fs::read_to_string(pair.path("upper-b/data/file")).unwrap();
    assert_eq!(file, "content");
    pair.until("discarded", |world| {
        world.calls.contains(&"a:discard".to_owned())
    })
    .await;
    pair.until("route dropped", |world| {
        world.calls.contains(&"b:drop-route".to_owned())
    })
    .await;
    let world = pair.world.lock().unwrap().clone();
    assert!(!world.twice);
    assert_eq!(world.runs, [false, true]);
    for folder in ["node-a/images", "node-b/images", "node-b/state/staging"] {
        let folder = pair.path(folder);
        pair.until("removed what it does not need", |_| empty(&folder))
            .await;
    }
    // A container that starts later in this pod starts from its image; the same one asked
    // again runs.
    let again = pair.start().await;
    assert_eq!(outcome(&again), Outcome::OUTCOME_RUNNING);
    let waiting = ContainerState::CONTAINER_STATE_WAITING;
    let later = pair
        .new
        .container("app", "redis@later", waiting, &pair.path("upper-c"));
    let annotations = [("migrate-from", pair.from())];
    let reply = pair.b.arrive(&pair.new, &later, &annotations, LONG).await;
    assert_eq!(outcome(&reply), Outcome::OUTCOME_ORDINARY);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_wait_for_each_other() {
    let pair = Pair::new("").await;
    let running = ContainerState::CONTAINER_STATE_RUNNING;
    let ended = ContainerState::CONTAINER_STATE_EXITED;
    let waiting = ContainerState::CONTAINER_STATE_WAITING;
    pair.old
        .container("side", "side@a", running, &pair.path("side-a"));
    pair.old
        .container("init", "init@a", ended, &pair.path("init-a"));
    std::fs::write(pair.path("side-a/note"), "of side").unwrap();
    let init = pair
        .new
        .container("init", "init@b", waiting, &pair.path("init-b"));
    let side = pair
        .new
        .container("side", "side@b", waiting, &pair.path("side-b"));
    let annotations = [("migrate-from", pair.from())];
    let reply = pair.b.arrive(&pair.new, &init, &annotations, LONG).await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_EXITED,
        "{}",
        reply.message
    );
    let reply = pair.start().await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_WAITING,
        "{}",
        reply.message
    );
    assert_eq!(pair.world.lock().unwrap().runs, [true, false]);
    let reply = pair.b.arrive(&pair.new, &side, &annotations, LONG).await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_RUNNING,
        "{}",
        reply.message
    );
    for name in ["app", "side"] {
        assert_eq!(pair.new.memory(name), Some(vec![7; 300_000]), "{name}");
    }
    assert!(pair.path("side-b/note").exists() && pair.path("upper-b/data/file").exists());
    let calls = pair.world.lock().unwrap().calls.clone();
    let freezes = calls.iter().filter(|call| *call == "a:freeze").count();
    assert_eq!(freezes, 1, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_restore_rolls_back() {
    let pair = Pair::new("").await;
    pair.new.fail_restore.store(true, Ordering::Relaxed);
    let reply = pair.start().await;
    assert_eq!(outcome(&reply), Outcome::OUTCOME_REFUSED);
    assert!(
        reply.message.contains("Can't fork for a fish"),
        "{}",
        reply.message
    );
    pair.until("resumed", |world| world.runs == [true, false])
        .await;
    // And again, now that it works.
    pair.new.fail_restore.store(false, Ordering::Relaxed);
    let reply = pair.start().await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_RUNNING,
        "{}",
        reply.message
    );
    assert!(!pair.world.lock().unwrap().twice);
}

/// Its image is the pod then: parked, and the next attempt gets it.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_on_after_a_failed_restore_is_parked() {
    let pair = Pair::new("").await;
    pair.old.stranded.store(true, Ordering::Relaxed);
    pair.new.fail_restore.store(true, Ordering::Relaxed);
    let reply = pair.start().await;
    assert_eq!(outcome(&reply), Outcome::OUTCOME_REFUSED);
    pair.until("discarded", |world| {
        world.calls.iter().any(|call| call == "a:discard")
    })
    .await;
    let images = pair.a.dir.join("images");
    pair.until("removed its images", |_| empty(&images)).await;
    pair.new.fail_restore.store(false, Ordering::Relaxed);
    let reply = pair.start().await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_RUNNING,
        "{}",
        reply.message
    );
    assert_eq!(pair.new.memory("app"), Some(vec![7; 300_000]));
    assert!(!pair.world.lock().unwrap().twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_dump_rolls_back_and_says_why() {
    let pair = Pair::new("").await;
    pair.old.fail_dump.store(true, Ordering::Relaxed);
    let reply = pair.start().await;
    assert_eq!(outcome(&reply), Outcome::OUTCOME_REFUSED);
    assert!(
        reply.message.contains("Can't dump a fish"),
        "{}",
        reply.message
    );
    pair.until("resumed", |world| world.runs == [true, false])
        .await;
    let images = pair.a.dir.join("images");
    pair.until("removed its images", |_| empty(&images)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_cause_and_touch_nothing() {
    let pair = Pair::new("").await;
    let good = pair.from();
    let waiting = ContainerState::CONTAINER_STATE_WAITING;
    let other_image = pair
        .new
        .container("app", "nginx@b", waiting, &pair.path("upper-x"));
    let other_name = pair
        .new
        .container("extra", "redis@x", waiting, &pair.path("upper-y"));
    let mut wider = pair.container.clone();
    wider.confinement.mut_or_insert_default().bounding = vec!["CAP_SYS_ADMIN".to_owned()];
    let unknown = good.replace("redis-0", "redis-9");
    let namespace = good.replace("/shop/", "/bank/");
    let silent = "127.0.0.1:1/shop/redis-0".to_owned();
    let cases = [
        (&other_image, good.clone(), "image differs"),
        (&other_name, good.clone(), "container extra is not in pod"),
        (&wider, good.clone(), "CAP_SYS_ADMIN"),
        (&pair.container, unknown, "no pod shop/redis-9"),
        (&pair.container, namespace, "own namespace bank"),
        (&pair.container, silent, "unreachable"),
        (
            &pair.container,
            "nonsense".to_owned(),
            "HOST:PORT/NAMESPACE/POD",
        ),
    ];
    for (container, from, text) in cases {
        let annotations = [("migrate-from", from)];
        let reply = pair
            .b
            .arrive(&pair.new, container, &annotations, LONG)
            .await;
        assert_eq!(outcome(&reply), Outcome::OUTCOME_REFUSED, "{text}");
        assert!(reply.message.contains(text), "{text}: {}", reply.message);
    }
    let calls = pair.world.lock().unwrap().calls.clone();
    assert!(!calls.iter().any(|call| call == "a:freeze"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_time_is_over_is_told_how_far_it_is() {
    let pair = Pair::new("").await;
    pair.a.arm("source-before-copy", "pause");
    let annotations = [("migrate-from", pair.from())];
    let short = Duration::from_millis(700);
    let reply = pair
        .b
        .arrive(&pair.new, &pair.container, &annotations, short)
        .await;
    assert_eq!(outcome(&reply), Outcome::OUTCOME_RETRY);
    assert!(
        reply.message.starts_with("migrating from"),
        "{}",
        reply.message
    );
    std::fs::remove_file(pair.a.dir.join("fault/source-before-copy")).unwrap();
    // kubelet makes a new container; the migration went on.
    let waiting = ContainerState::CONTAINER_STATE_WAITING;
    let upper = pair.path("upper-b2");
    let second = pair.new.container("app", "redis@b2", waiting, &upper);
    let reply = pair.b.arrive(&pair.new, &second, &annotations, LONG).await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_RUNNING,
        "{}",
        reply.message
    );
    assert!(upper.join("data/file").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_destination_before_run_is_an_abort() {
    let pair = Pair::new("").await;
    pair.b.arm("destination-before-restore", "pause");
    let (reply, ()) = tokio::join!(pair.start(), async {
        pair.until("frozen", |world| world.runs == [false, false])
            .await;
        pair.b.leave("sandbox-1", "", true).await;
        std::fs::remove_file(pair.b.dir.join("fault/destination-before-restore")).unwrap();
    });
    assert_eq!(outcome(&reply), Outcome::OUTCOME_REFUSED);
    pair.until("resumed", |world| world.runs == [true, false])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_destination_holds_the_pod_until_a_person_decides() {
    let pair = Pair::new("").await;
    pair.b.arm("destination-before-run-recorded", "kill");
    let annotations = [("migrate-from", pair.from())];
    let start = pair
        .b
        .arrive(&pair.new, &pair.container, &annotations, LONG);
    tokio::pin!(start);
    loop {
        tokio::select! {
            reply = &mut start => panic!("answered {reply:?}"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        if pair.dead(false) {
            break;
        }
    }
    let held = async || {
        pair.a
            .command(&["migrations", "--json"])
            .await
            .contains("\"held\"")
    };
    let deadline = Instant::now() + LONG;
    while !held().await {
        assert!(Instant::now() < deadline, "never held: {}", pair.a.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(pair.world.lock().unwrap().runs, [false, false]);
    // A restart of the source changes nothing.
    pair.revive(true).await;
    assert_eq!(pair.world.lock().unwrap().runs, [false, false]);
    let id = pair.migration();
    let said = pair.a.command(&["resolve", &id, "--run-here"]).await;
    assert!(said.contains("goes on on this node"), "{said}");
    pair.until("resumed", |world| world.runs == [true, false])
        .await;
    // The destination comes back: it had not decided, so it aborts.
    pair.revive(false).await;
    let reply = start.await;
    assert_eq!(
        outcome(&reply),
        Outcome::OUTCOME_RUNNING,
        "{}",
        reply.message
    );
    assert!(!pair.world.lock().unwrap().twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_migrates_once_at_a_time() {
    let pair = Pair::new("").await;
    pair.a.arm("source-after-freeze", "pause");
    let waiting = ContainerState::CONTAINER_STATE_WAITING;
    let third = Shim::new(&pair.world, 2, "redis-2", pair.root.path());
    let other = third.container("app", "redis@c", waiting, &pair.path("upper-c"));
    let _server = third.serve(&pair.b.dir.join("run")).await;
    let annotations = [("migrate-from", pair.from())];
    let (first, ()) = tokio::join!(pair.start(), async {
        pair.until("frozen", |world| world.runs == [false, false])
            .await;
        let second = pair.b.arrive(&third, &other, &annotations, LONG).await;
        assert_eq!(outcome(&second), Outcome::OUTCOME_REFUSED);
        assert!(
            second.message.contains("already migrating"),
            "{}",
            second.message
        );
        std::fs::remove_file(pair.a.dir.join("fault/source-after-freeze")).unwrap();
    });
    assert_eq!(
        outcome(&first),
        Outcome::OUTCOME_RUNNING,
        "{}",
        first.message
    );
    let late = pair.b.arrive(&third, &other, &annotations, LONG).await;
    assert!(late.message.contains("has moved"), "{}", late.message);
}

impl Pair {
    /// Id of the migration: the only journal at the source.
    fn migration(&self) -> String {
        let folder = self.a.dir.join("state/journal/source");
        let entry = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap();
        let name = entry.file_name().into_string().unwrap();
        name.trim_end_matches(".journal").to_owned()
    }
}

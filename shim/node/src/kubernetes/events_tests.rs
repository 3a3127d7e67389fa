use mycedrive_proto::shim::Container;

use super::*;

fn pod() -> DescribeReply {
    let container = Container {
        name: "redis".to_owned(),
        state: ContainerState::CONTAINER_STATE_RUNNING.into(),
        engine: "criu".to_owned(),
        ..Container::default()
    };
    DescribeReply {
        sandbox_id: "box".to_owned(),
        pod_namespace: "shop".to_owned(),
        pod_name: "redis-0".to_owned(),
        pod_uid: "u-1".to_owned(),
        containers: vec![container],
        ..DescribeReply::default()
    }
}

fn progress(phase: Phase, side: Side) -> Progress {
    let mut progress = Progress::new("m-1", side);
    progress.phase = phase;
    progress.namespace = "shop".to_owned();
    progress.pod = "redis-0".to_owned();
    progress.sandbox = "box".to_owned();
    progress.peer = "node-b".to_owned();
    progress.message = "no room".to_owned();
    progress
}

#[test]
fn a_pod_that_can_move_has_no_event() {
    assert_eq!(all(&[pod()], &[]), []);
    // One of `ctr` is no pod.
    let mut task = pod();
    task.pod_uid.clear();
    task.containers[0].not_migratable = vec!["no engine".to_owned()];
    assert_eq!(all(&[task], &[]), []);
}

#[test]
fn what_a_container_is_missing_is_said() {
    let mut pod = pod();
    pod.containers[0].engine_why = "DMTCP cannot carry a static program".to_owned();
    // Nobody asked for another one.
    for asked in [None, Some("auto"), Some("criu")] {
        let asked = asked.map(|asked| (ENGINE.to_owned(), asked.to_owned()));
        pod.annotations = asked.into_iter().collect();
        assert_eq!(all(std::slice::from_ref(&pod), &[]), []);
    }
    let asked = (ENGINE.to_owned(), "dmtcp".to_owned());
    pod.annotations = [asked].into();
    let events = all(std::slice::from_ref(&pod), &[]);
    assert_eq!(events.len(), 1);
    assert!(!events[0].warning && !events[0].at_once);
    assert_eq!(events[0].reason, "OtherEngine");
    assert_eq!(
        events[0].message,
        "container redis is carried by criu, not by dmtcp: DMTCP cannot carry a static program"
    );
    pod.containers[0].not_migratable = vec!["a; b".to_owned(), "c".repeat(2000)];
    let events = all(&[pod], &[]);
    assert_eq!(events.len(), 1);
    assert!(events[0].warning);
    assert!(events[0].message.starts_with("container redis cannot move"));
    assert_eq!(events[0].message.len(), LONGEST);
}

#[test]
fn how_a_migration_ends_is_said() {
    for (phase, side, reason, warning) in [
        (Phase::Relaying, Side::Source, "Migrated", false),
        (Phase::Completed, Side::Destination, "Migrated", false),
        (Phase::RolledBack, Side::Source, "MigrationRolledBack", true),
        (Phase::Held, Side::Source, "MigrationHeld", true),
        (Phase::Parked, Side::Source, "Parked", false),
    ] {
        let events = all(&[pod()], &[progress(phase, side)]);
        assert_eq!(events.len(), 1, "{phase:?}");
        let event = &events[0];
        assert_eq!((event.reason, event.warning), (reason, warning));
        assert_eq!(event.uid, "u-1");
        assert!(event.at_once && event.message.starts_with("migration m-1: "));
    }
    let held = all(&[pod()], &[progress(Phase::Held, Side::Source)]);
    assert!(held[0].message.contains("mycedrive resolve m-1"));
    for silent in [
        progress(Phase::Copying, Side::Source),
        progress(Phase::Failed, Side::Destination),
        progress(Phase::RolledBack, Side::Destination),
    ] {
        assert_eq!(all(&[pod()], &[silent]), []);
    }
    assert_eq!(all(&[], &[progress(Phase::Held, Side::Source)]), []);
    // One that the daemon found when it started, and changed.
    let mut old = progress(Phase::Completed, Side::Source);
    old.started_ns -= RECENT_NS + 1_000_000_000;
    assert_eq!(all(&[pod()], &[old]), []);
}

#[test]
fn the_same_event_has_the_same_name() {
    let of = |phase| all(&[pod()], &[progress(phase, Side::Source)]).remove(0);
    let event = of(Phase::Relaying);
    assert_eq!(event.name(), of(Phase::Completed).name());
    assert_ne!(event.name(), of(Phase::Held).name());
    assert!(event.name().starts_with("redis-0."));
    let body = event.body("node-a", "2026-11-27T00:00:00Z");
    assert_eq!(body["involvedObject"]["uid"], "u-1");
    assert_eq!(body["metadata"]["namespace"], "shop");
    assert_eq!(body["metadata"]["name"], event.name());
    assert_eq!(body["type"], "Normal");
}

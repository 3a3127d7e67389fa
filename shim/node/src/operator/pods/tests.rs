use super::*;
use crate::progress::Progress;

fn pod(role: Role, state: ContainerState) -> DescribeReply {
    DescribeReply {
        pod_name: "redis-0".to_owned(),
        migration_id: "m1".to_owned(),
        role: role.into(),
        containers: vec![Container {
            name: "redis".to_owned(),
            state: state.into(),
            ..Container::default()
        }],
        ..DescribeReply::default()
    }
}

fn table(side: Side, phase: Phase) -> Migrations {
    let migrations = Migrations::new("/nonexistent".into());
    let mut progress = Progress::new("m1", side);
    progress.phase = phase;
    progress.peer = "node-b".to_owned();
    migrations.enter(progress);
    migrations
}

#[test]
fn a_held_pod_says_where_it_runs() {
    let held = pod(Role::ROLE_SOURCE, ContainerState::CONTAINER_STATE_HELD);
    let (id, role, obstacle) = part(&held, &table(Side::Source, Phase::Completed));
    assert_eq!((id.as_str(), role), ("m1", "source"));
    assert!(obstacle.unwrap().contains("runs on node-b now"));
    let forgotten = Migrations::new("/nonexistent".into());
    assert!(part(&held, &forgotten).2.unwrap().contains("another node"));
}

#[test]
fn a_pod_that_has_arrived_is_free_again() {
    let here = pod(
        Role::ROLE_DESTINATION,
        ContainerState::CONTAINER_STATE_RUNNING,
    );
    let (id, role, obstacle) = part(&here, &table(Side::Destination, Phase::Completed));
    assert_eq!((id.as_str(), role, obstacle), ("", "", None));
    let (id, role, obstacle) = part(&here, &table(Side::Destination, Phase::Relaying));
    assert_eq!((id.as_str(), role, obstacle), ("m1", "destination", None));
    let (_, _, obstacle) = part(&here, &table(Side::Destination, Phase::Restoring));
    assert!(obstacle.unwrap().contains("in migration m1"));
}

#[test]
fn what_no_waiting_changes_is_named() {
    let mut pod = pod(Role::ROLE_NONE, ContainerState::CONTAINER_STATE_RUNNING);
    pod.containers[0].not_migratable = vec!["host network".to_owned()];
    assert_eq!(lasting_obstacles(&pod), ["redis: host network"]);
    pod.pod_name.clear();
    assert!(lasting_obstacles(&pod)[0].contains("not a Kubernetes pod"));
}

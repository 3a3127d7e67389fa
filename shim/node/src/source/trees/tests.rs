use super::*;

#[test]
fn maps_lines() {
    let shared = "7f12-7f13 rw-s 00001000 fe:01 4242     /var/lib/data file";
    assert_eq!(shared_writable(shared), Some((4242, "/var/lib/data file")));
    let private = "7f12-7f13 rw-p 00001000 fe:01 4242     /usr/lib/libc.so";
    assert_eq!(shared_writable(private), None);
    let anonymous = "7f12-7f13 rw-s 00000000 00:00 0 ";
    assert_eq!(shared_writable(anonymous), None);
}

#[test]
fn a_shared_mount_moves_once() {
    let container = |name: &str| Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        state: ContainerState::CONTAINER_STATE_RUNNING.into(),
        rootfs_upper: format!("/snapshots/{name}/fs"),
        mounts: vec![Mount {
            destination: "/dev/shm".to_owned(),
            volume: "/run/sandbox/shm".to_owned(),
            moves: true,
            ..Mount::default()
        }],
        ..Container::default()
    };
    let (one, two) = (container("one"), container("two"));
    let trees = Trees::of(&[&one, &two]);
    assert_eq!(trees.describe("one").names, ["rootfs", "/dev/shm"]);
    assert_eq!(trees.describe("two").names, ["rootfs"]);
    assert_eq!(ids_of("one", "/dev/shm", 0), ["mount/one/dev/shm"]);
    let shared = trees.parts.iter().find(|(id, _)| id == "mount/one/dev/shm");
    assert_eq!(shared.map(|(_, part)| part.views.len()), Some(2));
}

#[test]
fn layers_of_a_stack_are_parts_and_only_the_upper_changes() {
    let container = Container {
        name: "one".to_owned(),
        state: ContainerState::CONTAINER_STATE_RUNNING.into(),
        rootfs_upper: "/snapshots/one/fs".to_owned(),
        mounts: vec![Mount {
            destination: "/data".to_owned(),
            volume: "/volume".to_owned(),
            layers: ["/volume/s/base", "/volume/s/layer-1", "/volume/s/upper"]
                .map(str::to_owned)
                .to_vec(),
            moves: true,
            ..Mount::default()
        }],
        ..Container::default()
    };
    let trees = Trees::of(&[&container]);
    let described = trees.describe("one");
    assert_eq!(described.names, ["rootfs", "/data"]);
    assert_eq!(described.layers.get("/data"), Some(&3));
    let order: Vec<(&str, bool)> = trees
        .parts
        .iter()
        .map(|(id, part)| (id.as_str(), part.fixed))
        .collect();
    assert_eq!(
        order,
        [
            ("layer/one/0/data", true),
            ("layer/one/1/data", true),
            ("rootfs/one", false),
            ("layer/one/2/data", false),
        ]
    );
}

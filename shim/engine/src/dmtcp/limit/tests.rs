use super::*;

const MIB: u64 = 1 << 20;

/// The files of a v1 group, as this kernel writes them: 100 MiB used, 30 of them files (and 12 a
/// tmpfs, which is `cache` as well).
const V1_STAT: &str = "\
cache 44040192
inactive_file 4096
active_file 4096
hierarchical_memory_limit 125829120
total_cache 44040192
total_rss 60817408
total_shmem 12582912
total_inactive_anon 73400320
total_active_anon 0
total_inactive_file 20971520
total_active_file 10485760
total_unevictable 0
";
/// The same of a v2 group.
const V2_STAT: &str = "\
anon 60817408
file 44040192
shmem 12582912
inactive_anon 73400320
active_anon 0
inactive_file 20971520
active_file 10485760
slab_reclaimable 524288
workingset_activate_file 99999999
";

fn write(group: &Path, files: &[(&str, String)]) {
    fs::create_dir_all(group).unwrap();
    for (name, text) in files {
        fs::write(group.join(name), text).unwrap();
    }
}

fn v1(group: &Path, limit: u64, usage: u64) {
    write(
        group,
        &[
            ("cgroup.procs", String::new()),
            ("memory.limit_in_bytes", format!("{limit}\n")),
            ("memory.usage_in_bytes", format!("{usage}\n")),
            ("memory.stat", V1_STAT.to_owned()),
        ],
    );
}

fn v2(group: &Path, limit: &str, usage: u64) {
    write(
        group,
        &[
            ("cgroup.procs", String::new()),
            ("memory.max", format!("{limit}\n")),
            ("memory.current", format!("{usage}\n")),
            ("memory.stat", V2_STAT.to_owned()),
        ],
    );
}

fn image(needed_mib: u64) -> Image<'static> {
    Image {
        container: "main",
        pid: 1,
        needed: needed_mib * 1024,
    }
}

#[test]
fn files_are_taken_back_and_a_tmpfs_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let expected = Some(Room {
        limit: 120 * 1024,
        free: 50 * 1024,
    });
    v1(directory.path(), 120 * MIB, 100 * MIB);
    assert_eq!(Room::of(directory.path(), Version::V1), expected);
    v2(directory.path(), "125829120", 100 * MIB);
    assert_eq!(Room::of(directory.path(), Version::V2), expected);
    // The counters are not read at the same time.
    v2(directory.path(), "125829120", 10 * MIB);
    let room = Room::of(directory.path(), Version::V2).unwrap();
    assert_eq!(room.free, 120 * 1024);
    v2(directory.path(), "1048576", 100 * MIB);
    assert_eq!(Room::of(directory.path(), Version::V2).unwrap().free, 0);
}

#[test]
fn the_lower_one_of_two_limits_counts() {
    let directory = tempfile::tempdir().unwrap();
    let limit = |max: &str, high: &str| {
        v2(directory.path(), max, 10 * MIB);
        write(directory.path(), &[("memory.high", format!("{high}\n"))]);
        Room::of(directory.path(), Version::V2).map(|room| room.limit / 1024)
    };
    assert_eq!(limit("125829120", "104857600"), Some(100));
    assert_eq!(limit("104857600", "125829120"), Some(100));
    assert_eq!(limit("max", "104857600"), Some(100));
    assert_eq!(limit("104857600", "max"), Some(100));
    assert_eq!(limit("max", "max"), None);
}

#[test]
fn a_group_without_a_limit_has_room_for_all() {
    let directory = tempfile::tempdir().unwrap();
    v2(directory.path(), "max", 100 * MIB);
    assert_eq!(Room::of(directory.path(), Version::V2), None);
    let all = 1 << 30;
    let at = |version| (directory.path().to_owned(), version);
    let (group, version) = at(Version::V2);
    enough(&[(&image(all), version, group)], Path::new("/i")).unwrap();
    v1(directory.path(), 9_223_372_036_854_771_712, 100 * MIB);
    let (group, version) = at(Version::V1);
    enough(&[(&image(all), version, group)], Path::new("/i")).unwrap();
    // No such group, or no controller.
    let none = directory.path().join("none");
    enough(&[(&image(all), Version::V1, none)], Path::new("/i")).unwrap();
}

#[test]
fn a_limit_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    v1(directory.path(), 120 * MIB, 100 * MIB);
    let group = || directory.path().to_owned();
    let place = Path::new("/run/mycedrive/images");
    enough(&[(&image(50), Version::V1, group())], place).unwrap();
    let refused = enough(&[(&image(51), Version::V1, group())], place).unwrap_err();
    let text = refused.to_string();
    for part in [
        "container main needs about 51 MiB",
        "/run/mycedrive/images is memory",
        "memory limit of 120 MiB",
        "which has 50 MiB free",
        "nothing was done: raise the container's limit, or put image_dir on a disk",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn containers_of_a_pod_share_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let pod = directory.path().join("pod");
    let of = |name: &str| pod.join(name);
    for (version, limits) in [(Version::V2, "max"), (Version::V1, "")] {
        let make = |group: &Path, limit: Option<u64>| match version {
            Version::V1 => v1(group, limit.unwrap_or(1 << 62), 100 * MIB),
            Version::V2 => {
                let limit = limit.map_or(limits.to_owned(), |limit| limit.to_string());
                v2(group, &limit, 100 * MIB);
            }
        };
        make(&pod, Some(120 * MIB));
        make(&of("a"), None);
        make(&of("b"), Some(200 * MIB));
        let (a, b) = (image(30), image(30));
        enough(&[(&a, version, of("a"))], Path::new("/i")).unwrap();
        enough(&[(&b, version, of("b"))], Path::new("/i")).unwrap();
        let both = [(&a, version, of("a")), (&b, version, of("b"))];
        let error = enough(&both, Path::new("/i")).unwrap_err();
        let EngineError::MemoryLimit { group, needed, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((group, needed), (pod.clone(), 60));
    }
}

#[test]
fn only_memory_is_looked_at() {
    assert!(in_memory(Path::new("/dev/shm")).unwrap());
    assert!(!in_memory(Path::new("/proc")).unwrap());
    in_memory(Path::new("/nonexistent")).unwrap_err();
    // This process's own groups are found, and nothing is no problem.
    let own = Image {
        container: "c",
        pid: std::process::id() as i32,
        needed: 0,
    };
    check(&[own], Path::new("/dev/shm")).unwrap();
}

use super::*;
use serde_json::json;

fn images(all: &[&[(&str, usize)]]) -> (tempfile::TempDir, Vec<(String, PathBuf)>) {
    let folder = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for (number, files) in all.iter().enumerate() {
        let image = folder.path().join(number.to_string());
        fs::create_dir(&image).unwrap();
        for (name, length) in *files {
            fs::write(image.join(name), vec![7; *length]).unwrap();
        }
        images.push((number.to_string(), image));
    }
    (folder, images)
}

#[test]
fn the_container_with_attached_memory_comes_first() {
    let lists: &[(&str, usize)] = &[("ipcns-shm-9.img", 50), ("ipcns-sem-9.img", 8)];
    let (_folder, pod) = images(&[lists, lists, &[("ipcns-shm-9.img", 50), (ATTACHED, 0)]]);
    assert_eq!(first(&pod).unwrap(), Some(2));
    assert_eq!(first(&pod[..2]).unwrap(), Some(0));
    assert_eq!(
        first(&pod[..1]).unwrap(),
        None,
        "there is nobody to share with"
    );
}

#[test]
fn without_objects_none_waits() {
    let lists: &[(&str, usize)] = &[("ipcns-msg-1.img", 8), ("pages-1.img", 4096)];
    let (_folder, pod) = images(&[lists, lists, &[]]);
    assert_eq!(first(&pod).unwrap(), None);
}

#[test]
fn emptied_lists_keep_what_they_are() {
    let lists: &[(&str, usize)] = &[("ipcns-msg-1.img", 90), ("ipcns-var-1.img", 90)];
    let (_folder, pod) = images(&[lists, lists]);
    empty(&pod[1].1).unwrap();
    let length = |image: usize, name: &str| fs::metadata(pod[image].1.join(name)).unwrap().len();
    assert_eq!(length(1, "ipcns-msg-1.img"), EMPTY);
    assert_eq!(length(1, "ipcns-var-1.img"), 90);
    assert_eq!(length(0, "ipcns-msg-1.img"), 90);
    // As after a restore that was begun and failed.
    assert_eq!(first(&pod).unwrap(), Some(0));
}

#[test]
fn a_link_is_not_followed() {
    let (_folder, pod) = images(&[&[("other", 90)]]);
    let image = &pod[0].1;
    std::os::unix::fs::symlink(image.join("other"), image.join("ipcns-shm-1.img")).unwrap();
    assert!(empty(image).is_err());
    assert_eq!(fs::metadata(image.join("other")).unwrap().len(), 90);
}

#[test]
fn attached_memory_is_seen_in_the_maps() {
    let line = "7f1c8a2f6000-7f1c8a2f7000 rw-s 00000000 00:01 32768    /SYSV0000162e (deleted)\n";
    assert!(maps_segment(&format!(
        "55d0-55d1 r--p 00000000 fe:00 12 /bin/x\n{line}"
    )));
    for other in [
        "7f00-7f01 rw-s 00000000 fe:00 12   /SYSV00000001\n",
        "7f00-7f01 rw-s 00000000 00:01 5   /dev/zero (deleted)\n",
        "7f00-7f01 rw-p 00000000 00:00 0 \n",
    ] {
        assert!(!maps_segment(other), "{other}");
    }
}

#[test]
fn a_folder_is_no_place_of_message_queues() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(message_queues(folder.path()).is_empty());
    assert!(message_queues(Path::new("/no/such/place")).is_empty());
}

#[test]
fn the_sandboxs_namespace_is_named_by_the_spec() {
    let spec = json!({ "linux": { "namespaces": [{ "type": "ipc", "path": "/proc/7/ns/ipc" }] } });
    assert_eq!(namespace(&spec), Some(Path::new("/proc/7/ns/ipc")));
    let own = json!({ "linux": { "namespaces": [{ "type": "ipc" }] } });
    assert_eq!(namespace(&own), None);
    assert_eq!(namespace(&json!({})), None);
}

#[test]
fn the_kernels_tables_are_read() {
    let table = "\
       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime
        78          0   666          1     0     0     0     0 1764158000 1764157999
         0      98305   600          4     0     0     0     0          0 1764157999
";
    assert_eq!(numbers(table), [0, 98305]);
    assert!(numbers("").is_empty());
}

/// What a restore that failed has left would stand in the way of the next one.
#[test]
fn a_namespace_is_cleared() {
    let made = std::thread::spawn(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWIPC).ok()?;
        // SAFETY: takes numbers.
        let made = unsafe {
            [
                libc::shmget(7, 4096, libc::IPC_CREAT | 0o600),
                libc::semget(7, 2, libc::IPC_CREAT | 0o600),
                libc::msgget(7, libc::IPC_CREAT | 0o600),
            ]
        };
        assert!(made.iter().all(|id| *id >= 0), "{made:?}");
        let own = format!("/proc/self/task/{}/ns/ipc", nix::unistd::gettid());
        clear(Path::new(&own)).unwrap();
        let left = ["shm", "sem", "msg"]
            .map(|kind| numbers(&fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap()));
        Some(left)
    });
    match made.join().unwrap() {
        Some(left) => assert!(left.iter().all(Vec::is_empty), "{left:?}"),
        None => println!("skipped: not root"),
    }
}

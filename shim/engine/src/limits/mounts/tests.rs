use serde_json::json;

use super::*;

const MOUNTS: &str = "\
90 80 0:50 / / rw,relatime - overlay overlay rw
91 90 0:51 / /proc rw,nosuid - proc proc rw
92 91 0:51 /sys /proc/sys ro,nosuid - proc proc rw
93 91 0:52 / /proc/kcore rw,nosuid - tmpfs tmpfs rw
94 90 0:53 / /sys ro,nosuid - sysfs sysfs ro
95 94 0:54 / /sys/fs/cgroup ro - tmpfs tmpfs rw
96 95 0:55 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
97 90 8:1 /data /data rw - ext4 /dev/sda1 rw";

fn spec() -> Value {
    json!({
        "root": { "path": "rootfs" },
        "process": { "capabilities": { "bounding": ["CAP_CHOWN"] } },
        "mounts": [
            { "destination": "/proc", "type": "proc" },
            { "destination": "/sys", "type": "sysfs", "options": ["ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"] },
            { "destination": "/data", "type": "bind", "source": "/srv/data" },
        ],
        "linux": {
            "maskedPaths": ["/proc/kcore", "/proc/absent"],
            "readonlyPaths": ["/proc/sys", "/sys/firmware", "/proc/absent"],
        },
    })
}

fn found(mounts: &str, spec: &Value) -> Option<String> {
    wider(spec, mounts, |path| path != Path::new("/proc/absent"))
}

fn without(line: &str) -> String {
    MOUNTS
        .lines()
        .filter(|one| !one.contains(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn what_the_spec_gives_passes() {
    assert_eq!(found(MOUNTS, &spec()), None);
}

#[test]
fn what_the_runtime_covered_stays_covered() {
    let text = found(&without("/proc/kcore"), &spec()).unwrap();
    assert!(text.contains("/proc/kcore is not masked"), "{text}");
    let text = found(&without("/proc/sys"), &spec()).unwrap();
    assert!(text.contains("/proc/sys is not read-only"), "{text}");
    let writable = MOUNTS.replace("/proc/sys ro", "/proc/sys rw");
    assert!(found(&writable, &spec()).is_some());
}

#[test]
fn nothing_of_the_kernel_is_added() {
    for line in [
        "98 90 0:60 / /mnt rw - debugfs debugfs rw",
        "98 90 0:60 / /mnt rw - proc proc rw",
        "98 90 0:60 / /x/proc rw - proc proc rw",
        "98 90 0:60 / /dev rw - devtmpfs devtmpfs rw",
    ] {
        let more = format!("{MOUNTS}\n{line}");
        assert!(found(&more, &spec()).is_some(), "{line}");
    }
    let mut bound = spec();
    bound["mounts"][3]["destination"] = json!("/mnt");
    let more = format!("{MOUNTS}\n98 90 0:60 / /mnt rw - debugfs debugfs rw");
    assert_eq!(found(&more, &bound), None);
}

#[test]
fn the_nodes_device_files_are_where_a_runtime_puts_them() {
    let masked = MOUNTS.replace(
        "/ /proc/kcore rw,nosuid - tmpfs tmpfs rw",
        "/null /proc/kcore rw,nosuid - devtmpfs devtmpfs rw",
    );
    assert_ne!(masked, MOUNTS);
    let in_a_user_namespace = "98 90 0:5 /urandom /dev/urandom rw - devtmpfs devtmpfs rw";
    let all = format!("{masked}\n{in_a_user_namespace}");
    assert_eq!(found(&all, &spec()), None);
    for line in [
        "98 90 0:5 /null /proc/sysrq-trigger rw - devtmpfs devtmpfs rw",
        "98 90 0:5 /sda /proc/kcore rw - devtmpfs devtmpfs rw",
        "98 90 0:5 / /proc/kcore rw - devtmpfs devtmpfs rw",
        "98 90 0:5 /mem /dev/null rw - devtmpfs devtmpfs rw",
        "98 90 0:5 /kmsg /dev/kmsg rw - devtmpfs devtmpfs rw",
    ] {
        let more = format!("{MOUNTS}\n{line}");
        assert!(found(&more, &spec()).is_some(), "{line}");
    }
}

#[test]
fn a_read_only_root_stays_one() {
    let mut read_only = spec();
    read_only["root"]["readonly"] = json!(true);
    assert!(found(MOUNTS, &read_only).is_some());
    let mounts = MOUNTS.replace("/ / rw", "/ / ro");
    assert_eq!(found(&mounts, &read_only), None);
}

#[test]
fn who_may_mount_may_have_mounted() {
    let mut privileged = spec();
    privileged["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    assert_eq!(found("", &privileged), None);
}

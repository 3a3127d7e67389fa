use super::*;

#[test]
fn reads_mountinfo() {
    let named =
        parse_mount("33 26 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd")
            .unwrap();
    assert_eq!(named.options, "none,name=systemd");
    let cpu = parse_mount(
        "33 26 0:30 / /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct",
    )
    .unwrap();
    assert_eq!((cpu.options.as_str(), cpu.unified), ("cpu,cpuacct", false));
    assert_eq!(cpu.mount, Path::new("/sys/fs/cgroup/cpu"));
    assert!(
        parse_mount("1 0 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate")
            .unwrap()
            .unified
    );
    assert_eq!(parse_mount("1 0 8:1 / / rw - ext4 /dev/vda rw"), None);
}

use std::path::Path;

use super::Cgroup;

#[test]
fn version_1_has_a_directory_per_controller() {
    let table = "7:cpu,cpuacct:/k8s/x\n3:memory:/k8s/x\n1:name=systemd:/y\n0::/\n";
    let cgroup = Cgroup::parse(table, Path::new("/nonexistent"), false).unwrap();
    assert_eq!(
        cgroup.directory("cpuacct"),
        Some(Path::new("/nonexistent/cpu,cpuacct/k8s/x"))
    );
    assert_eq!(
        cgroup.directory("systemd"),
        Some(Path::new("/nonexistent/systemd/y"))
    );
    assert_eq!(cgroup.directory("rdma"), None);
}

#[test]
fn version_2_has_one() {
    let cgroup = Cgroup::parse("0::/a/b\n", Path::new("/c"), true).unwrap();
    assert_eq!(cgroup, Cgroup::V2("/c/a/b".into()));
}

#[test]
fn garbage_is_no_cgroup() {
    assert_eq!(Cgroup::parse("nonsense", Path::new("/c"), false), None);
    assert_eq!(Cgroup::parse("", Path::new("/c"), true), None);
}

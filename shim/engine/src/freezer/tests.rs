use std::path::Path;

use super::locate::freezer;
use super::*;

const V1: &str = "\
25 24 0:22 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu rw shared:5 - cgroup cgroup rw,cpu
27 25 0:24 / /sys/fs/cgroup/freezer rw shared:6 - cgroup cgroup rw,freezer
28 25 0:25 / /sys/fs/cgroup/unified rw shared:7 - cgroup2 cgroup2 rw
";
const V2: &str = "30 24 0:26 /node /sys/fs/cgroup rw shared:8 - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn v1_wins_where_both_are_mounted() {
    let groups = "5:freezer:/k8s/c1\n3:cpu,cpuacct:/other\n0::/k8s/c1\n";
    let found = freezer(groups, V1).unwrap();
    assert_eq!(found.version, Version::V1);
    assert_eq!(found.directory, Path::new("/sys/fs/cgroup/freezer/k8s/c1"));
}

#[test]
fn v2_is_used_where_it_is_alone_and_below_the_mounts_root() {
    let found = freezer("0::/node/k8s/c1\n", V2).unwrap();
    assert_eq!(found.version, Version::V2);
    assert_eq!(found.directory, Path::new("/sys/fs/cgroup/k8s/c1"));
}

#[test]
fn a_controller_of_version_1_has_its_own_group() {
    let groups = "3:cpu,cpuacct:/other\n2:memory:/k8s/c1\n0::/k8s/c1\n";
    let mounts = format!("{V1}29 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    assert_eq!(
        locate::group(groups, &mounts, "memory"),
        Some((Version::V1, "/sys/fs/cgroup/memory/k8s/c1".into()))
    );
    assert_eq!(
        locate::group("0::/node/c1\n", V2, "memory"),
        Some((Version::V2, "/sys/fs/cgroup/c1".into()))
    );
    assert_eq!(locate::group("0::/elsewhere\n", V2, "memory"), None);
}

#[test]
fn a_group_outside_what_is_mounted_is_an_error_that_shows_it() {
    let error = freezer("0::/elsewhere\n", V2).unwrap_err();
    assert!(error.contains("/elsewhere"), "{error}");
    assert!(freezer("", V1).is_err());
}

/// A directory that looks like a group to the code above.
fn group(version: Version, state: &str) -> (tempfile::TempDir, Freezer) {
    let directory = tempfile::tempdir().unwrap();
    let (request, answer) = match version {
        Version::V1 => ("freezer.state", "freezer.state"),
        Version::V2 => ("cgroup.freeze", "cgroup.events"),
    };
    fs::write(directory.path().join(request), "").unwrap();
    fs::write(directory.path().join(answer), state).unwrap();
    fs::write(directory.path().join("cgroup.procs"), "").unwrap();
    let freezer = Freezer {
        version,
        directory: directory.path().to_owned(),
    };
    (directory, freezer)
}

#[test]
fn frozen_is_read_from_the_file_of_each_version() {
    for (version, text, frozen) in [
        (Version::V1, "FROZEN\n", true),
        (Version::V1, "FREEZING\n", false),
        (Version::V1, "THAWED\n", false),
        (Version::V2, "populated 1\nfrozen 1\n", true),
        (Version::V2, "populated 1\nfrozen 0\n", false),
    ] {
        let (_directory, freezer) = group(version, text);
        assert_eq!(freezer.is_frozen().unwrap(), frozen, "{text}");
    }
}

#[test]
fn a_failed_freeze_leaves_nothing_frozen() {
    let (_directory, good) = group(Version::V2, "frozen 1\n");
    let gone = Freezer {
        version: Version::V2,
        directory: PathBuf::from("/nonexistent"),
    };
    freeze_all(&[good.clone(), gone.clone()]).unwrap_err();
    let asked = fs::read_to_string(good.directory.join("cgroup.freeze")).unwrap();
    assert_eq!(asked, "0");
    thaw_all(&[gone]).unwrap();
}

#[test]
fn processes_of_groups_below_are_found() {
    let (directory, freezer) = group(Version::V2, "");
    fs::write(directory.path().join("cgroup.procs"), "7\n8\n").unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    fs::write(directory.path().join("sub/cgroup.procs"), "9\n").unwrap();
    let mut found = freezer.processes().unwrap();
    found.sort_unstable();
    assert_eq!(found, [7, 8, 9]);
}

/// Where a process of this test can be put into a group of version 2, or why nowhere.
fn unified_mount() -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let mount = mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .ok_or("no cgroup2 is mounted")?;
    let point = mount.split(' ').nth(4).ok_or("no mount point")?;
    Ok(PathBuf::from(point))
}

#[test]
fn a_group_of_version_2_is_frozen_thawed_and_killed_by_this_kernel() {
    let directory = match unified_mount() {
        Ok(mount) => mount.join(format!("mycedrive-freezer-{}", std::process::id())),
        Err(why) => return println!("skipped: {why}"),
    };
    if let Err(error) = fs::create_dir(&directory) {
        return println!("skipped: cannot make {}: {error}", directory.display());
    }
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "while :; do echo; done"])
        .stdout(output.reopen().unwrap())
        .spawn()
        .unwrap();
    fs::write(directory.join("cgroup.procs"), child.id().to_string()).unwrap();
    let freezer = Freezer {
        version: Version::V2,
        directory: directory.clone(),
    };
    let written = || output.as_file().metadata().unwrap().len();
    let soon = |condition: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(5));
        }
    };
    soon(&|| written() > 0);

    freeze_all(std::slice::from_ref(&freezer)).unwrap();
    assert!(freezer.is_frozen().unwrap());
    assert_eq!(freezer.processes().unwrap(), [child.id() as i32]);
    let before = written();
    sleep(Duration::from_millis(100));
    assert_eq!(written(), before);

    thaw_all(std::slice::from_ref(&freezer)).unwrap();
    soon(&|| written() > before);
    soon(&|| !freezer.is_frozen().unwrap());

    freeze_all(std::slice::from_ref(&freezer)).unwrap();
    freezer.kill_all().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(freezer.processes().unwrap().is_empty());
    fs::remove_dir(&directory).unwrap();
}

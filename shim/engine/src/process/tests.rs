use super::*;

const STATUS: &str = "\
Name:\tredis-server
State:\tT (stopped)
TracerPid:\t0
Uid:\t999\t999\t999\t999
Gid:\t998\t998\t998\t998
NSpid:\t4711\t1
CapInh:\t0000000000000000
CapPrm:\t00000000a80425fb
CapEff:\t0000000000000001
CapBnd:\t00000000a80425fb
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
";

#[test]
fn status_is_read() {
    let status = Status::parse(STATUS);
    assert_eq!(status.state, 'T');
    assert_eq!(status.inner_pid, 1);
    assert_eq!(status.uids, [999; 4]);
    assert_eq!(status.gids, [998; 4]);
    assert_eq!(status.capabilities.bounding, 0xa804_25fb);
    assert_eq!(status.capabilities.effective, 1);
    assert!(status.no_new_privileges);
    assert_eq!(status.seccomp, 2);
}

#[test]
fn an_unreadable_capability_set_counts_as_all() {
    assert_eq!(
        Status::parse("CapBnd:\tx\n").capabilities.bounding,
        u64::MAX
    );
}

#[test]
fn own_status_descriptors_and_namespaces_can_be_read() {
    let pid = std::process::id() as i32;
    assert_ne!(Status::read(pid).unwrap().inner_pid, 0);
    assert!(!descriptors(pid).unwrap().is_empty());
    assert!(namespace(pid, "pid").unwrap().starts_with("pid:["));
    assert!(!in_vfork(pid));
}

#[test]
fn calls_that_wait_for_the_child_are_known() {
    let flags = |word| move |_address| Some(word);
    let vfork = libc::CLONE_VFORK as u64;
    let line = |number, first: u64| format!("{number} {first:#x} 0x0 0x0 0x0 0x0 0x0 0x7f 0x7e");
    #[cfg(target_arch = "x86_64")]
    assert!(vfork_call(&line(libc::SYS_vfork, 0), |_| None));
    assert!(vfork_call(&line(libc::SYS_clone, vfork | 0x100), |_| None));
    assert!(!vfork_call(&line(libc::SYS_clone, 0x100), |_| None));
    assert!(vfork_call(&line(libc::SYS_clone3, 0x1000), flags(vfork)));
    assert!(!vfork_call(&line(libc::SYS_clone3, 0x1000), flags(0)));
    assert!(!vfork_call(&line(libc::SYS_clone3, 0x1000), |_| None));
    assert!(!vfork_call(&line(libc::SYS_read, vfork), |_| None));
    assert!(!vfork_call("running\n", |_| None));
    assert!(!vfork_call("-1 0x7ffd 0x7f\n", |_| None));
}

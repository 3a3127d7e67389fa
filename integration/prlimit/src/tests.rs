use super::*;

#[test]
fn the_file_says_what_the_system_call_says() {
    let text = fs::read_to_string("/proc/self/limits").unwrap();
    for resource in 0..16 {
        let mut system = rlimit64 {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `system` is an rlimit64; process 0 is this one.
        let result = unsafe {
            let old = (&raw mut system) as c_long;
            syscall(libc::SYS_prlimit64, 0, c_long::from(resource), 0, old, 0, 0)
        };
        assert_eq!(result, 0);
        let file = limit(&text, resource).unwrap();
        assert_eq!(
            (file.rlim_cur, file.rlim_max),
            (system.rlim_cur, system.rlim_max),
            "resource {resource}"
        );
    }
    assert!(limit(&text, 16).is_none());
    assert!(limit(&text, -1).is_none());
    assert!(limit("", 0).is_none());
}

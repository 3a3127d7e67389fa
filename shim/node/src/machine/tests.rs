use super::*;

#[test]
fn versions() {
    assert_eq!(version("4.2"), Some((4, 2)));
    assert_eq!(version("4.10-dirty"), Some((4, 10)));
    assert_eq!(version(""), None);
    assert!(version("4.2") < version("4.10"));
}

#[test]
fn a_process_lives_until_it_ends() {
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let pid = child.id() as i32;
    assert!(lives(pid));
    child.kill().unwrap();
    // It is not collected yet.
    while lives(pid) {
        std::thread::yield_now();
    }
    child.wait().unwrap();
    assert!(!lives(pid));
}

#[test]
fn resident_memory_is_summed() {
    let status = "Name: x\nRssAnon:\t 10 kB\nRssFile:\t 99 kB\nRssShmem:\t 2 kB\n";
    assert_eq!(resident(status), 12 * 1024);
    assert!(memory_of(std::process::id() as i32) > 0);
}

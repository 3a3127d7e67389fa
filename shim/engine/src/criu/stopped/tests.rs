use super::*;

#[test]
fn a_stopped_process_is_recorded_and_a_running_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let pid = child.id() as i32;
    crate::freezer::signal(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    while Status::read(pid).unwrap().state != 'T' {
        std::thread::yield_now();
    }
    let inner = Status::read(pid).unwrap().inner_pid;
    record(directory.path(), &[pid, std::process::id() as i32]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(read(directory.path()).unwrap(), BTreeSet::from([inner]));
}

#[test]
fn images_without_a_list_and_with_a_bad_one() {
    let directory = tempfile::tempdir().unwrap();
    assert!(read(directory.path()).unwrap().is_empty());
    for text in ["", "{}", "[\"1\"]", "[99999999999]"] {
        fs::write(directory.path().join(FILE), text).unwrap();
        let error = read(directory.path()).unwrap_err();
        assert!(matches!(error, EngineError::DamagedImage { .. }), "{text}");
    }
}

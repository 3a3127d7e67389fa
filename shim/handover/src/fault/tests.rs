use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use super::{FaultPoint, Injected, hit, hit_in};

#[test]
fn names_are_unique_and_say_the_side() {
    let mut seen = HashSet::new();
    for point in FaultPoint::ALL {
        let name = point.name();
        assert!(seen.insert(name), "{name} twice");
        let side = name.strip_prefix("shim-").unwrap_or(name);
        assert!(
            side.starts_with("source-") || side.starts_with("destination-"),
            "{name}"
        );
    }
    assert!(seen.len() >= 40);
}

#[test]
fn nothing_happens_unarmed() {
    assert_eq!(hit(FaultPoint::SourceAfterFreeze), Ok(()));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(hit_in(folder.path(), FaultPoint::SourceAfterFreeze), Ok(()));
}

#[test]
fn errors_as_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let point = FaultPoint::SourceAfterFreeze;
    let file = folder.path().join(point.name());
    fs::write(&file, "error\n").unwrap();
    assert_eq!(
        hit_in(folder.path(), point),
        Err(Injected("source-after-freeze"))
    );
    assert!(hit_in(folder.path(), point).is_err());
    fs::write(&file, "error-once").unwrap();
    assert!(hit_in(folder.path(), point).is_err());
    assert!(hit_in(folder.path(), point).is_ok());
    fs::write(&file, "dance").unwrap();
    assert!(hit_in(folder.path(), point).is_ok());
}

#[test]
fn a_pause_lasts_until_the_file_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let point = FaultPoint::DestinationBeforeRun;
    let file = folder.path().join(point.name());
    fs::write(&file, "pause").unwrap();
    let path = folder.path().to_owned();
    let paused = thread::spawn(move || hit_in(&path, point));
    let reached = folder.path().join("destination-before-run.reached");
    while !reached.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(!paused.is_finished());
    fs::remove_file(&file).unwrap();
    assert_eq!(paused.join().unwrap(), Ok(()));
}

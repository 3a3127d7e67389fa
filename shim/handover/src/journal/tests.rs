use std::fs;
use std::io::Write;
use std::time::Duration;

use super::{Error, Journal, list, prune, read};
use crate::source::Step;

fn thawing() -> Step {
    Step::Thawing {
        reason: "no disk".to_owned(),
    }
}

#[test]
fn records_come_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new/folder");
    let (mut journal, before) = Journal::open::<Step>(&folder, "m1").unwrap();
    assert!(before.is_empty());
    journal.append(&Step::Opened).unwrap();
    journal.append(&thawing()).unwrap();
    drop(journal);
    let (mut journal, before) = Journal::open::<Step>(&folder, "m1").unwrap();
    assert_eq!(before, [Step::Opened, thawing()]);
    journal.append(&Step::Done).unwrap();
    let all = [Step::Opened, thawing(), Step::Done];
    assert_eq!(read::<Step>(&folder, "m1").unwrap(), all);
    assert_eq!(list(&folder).unwrap(), ["m1"]);
}

#[test]
fn a_tail_torn_at_any_byte_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open::<Step>(folder.path(), "m").unwrap();
    journal.append(&Step::Opened).unwrap();
    let whole = fs::metadata(journal.path()).unwrap().len() as usize;
    journal.append(&thawing()).unwrap();
    let path = journal.path().to_owned();
    drop(journal);
    let bytes = fs::read(&path).unwrap();
    for length in whole..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let (mut journal, records) = Journal::open::<Step>(folder.path(), "m").unwrap();
        assert_eq!(records, [Step::Opened], "cut at {length}");
        journal.append(&Step::Offered).unwrap();
        let records = read::<Step>(folder.path(), "m").unwrap();
        assert_eq!(records, [Step::Opened, Step::Offered], "cut at {length}");
    }
}

#[test]
fn a_changed_bit_ends_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open::<Step>(folder.path(), "m").unwrap();
    journal.append(&Step::Opened).unwrap();
    let whole = fs::metadata(journal.path()).unwrap().len() as usize;
    journal.append(&thawing()).unwrap();
    let path = journal.path().to_owned();
    let bytes = fs::read(&path).unwrap();
    for at in whole..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let records = read::<Step>(folder.path(), "m").unwrap();
        assert_eq!(records, [Step::Opened], "bit at {at}");
    }
}

#[test]
fn zeros_after_a_crash_are_a_torn_tail() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open::<Step>(folder.path(), "m").unwrap();
    journal.append(&Step::Opened).unwrap();
    let path = journal.path().to_owned();
    drop(journal);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    let (_, records) = Journal::open::<Step>(folder.path(), "m").unwrap();
    assert_eq!(records, [Step::Opened]);
    assert!(fs::metadata(&path).unwrap().len() < 100);
}

#[test]
fn a_record_of_another_version_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open::<String>(folder.path(), "m").unwrap();
    journal.append(&"what is this".to_owned()).unwrap();
    let error = read::<Step>(folder.path(), "m").unwrap_err();
    assert!(matches!(error, Error::Record { index: 0, .. }), "{error}");
    assert!(Journal::open::<Step>(folder.path(), "m").is_err());
}

#[test]
fn names_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "../x", "a/b", ".hidden", "a b", "ä"] {
        let error = Journal::open::<Step>(folder.path(), name).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{name}");
    }
}

#[test]
fn pruning_takes_finished_and_old_ones_only() {
    let folder = tempfile::tempdir().unwrap();
    for (name, last) in [("done", Step::Done), ("held", Step::Offered)] {
        let (mut journal, _) = Journal::open::<Step>(folder.path(), name).unwrap();
        journal.append(&Step::Opened).unwrap();
        journal.append(&last).unwrap();
    }
    let finished = |steps: &[Step]| steps.last() == Some(&Step::Done);
    let hour = Duration::from_secs(3600);
    assert!(prune(folder.path(), hour, finished).unwrap().is_empty());
    assert_eq!(
        prune(folder.path(), Duration::ZERO, finished).unwrap(),
        ["done"]
    );
    assert_eq!(list(folder.path()).unwrap(), ["held"]);
    assert!(list(&folder.path().join("none")).unwrap().is_empty());
}

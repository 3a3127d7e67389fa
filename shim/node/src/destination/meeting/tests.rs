use mycedrive_proto::migration::{Manifest, SourceContainer};
use mycedrive_proto::shim::Container;

use super::{Answer, Meeting, Outcome, Stage};

fn container(name: &str, id: &str) -> Container {
    Container {
        name: name.to_owned(),
        id: id.to_owned(),
        ..Container::default()
    }
}

fn manifest() -> Manifest {
    let one = |name: &str, exited, exit_code| SourceContainer {
        name: name.to_owned(),
        exited,
        exit_code,
        ..SourceContainer::default()
    };
    Manifest {
        containers: vec![
            one("init", true, 0),
            one("app", false, 0),
            one("side", false, 0),
        ],
        ..Manifest::default()
    }
}

#[test]
fn the_last_one_waits_and_those_before_are_reported() {
    let mut meeting = Meeting::default();
    meeting.arrive(container("init", "1"));
    assert_eq!(meeting.answer("init"), None);
    meeting.expect(&manifest());
    assert_eq!(meeting.answer("init"), Some(Answer::Exited(0)));
    meeting.arrive(container("app", "2"));
    assert_eq!(meeting.answer("app"), None);
    meeting.advance(Stage::Ready);
    assert_eq!(meeting.answer("app"), Some(Answer::Waiting));
    assert_eq!(meeting.missing(), ["side"]);
    meeting.arrive(container("side", "3"));
    assert!(meeting.complete());
    assert_eq!(meeting.answer("side"), None);
    assert!(meeting.commit());
    assert!(!meeting.give_up("side", "3"));
    meeting.end(Outcome::Running);
    assert_eq!(meeting.answer("side"), Some(Answer::Running));
}

#[test]
fn a_start_that_gave_up_does_not_count() {
    let mut meeting = Meeting::default();
    meeting.expect(&manifest());
    meeting.arrive(container("app", "1"));
    meeting.arrive(container("side", "2"));
    assert!(meeting.give_up("side", "2"));
    assert!(!meeting.commit());
    meeting.arrive(container("side", "3"));
    // A late word about the old attempt does not remove the new one.
    assert!(meeting.give_up("side", "2"));
    assert_eq!(meeting.leave("2"), None);
    assert!(meeting.complete());
    assert_eq!(meeting.leave("3"), Some("side".to_owned()));
    assert!(!meeting.complete());
}

#[test]
fn a_failure_reaches_every_start() {
    let mut meeting = Meeting::default();
    meeting.arrive(container("app", "1"));
    meeting.end(Outcome::Failed("no disk".to_owned()));
    meeting.end(Outcome::Running);
    assert_eq!(
        meeting.answer("app"),
        Some(Answer::Refused("no disk".to_owned()))
    );
    assert!(!meeting.commit());
}

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

#[test]
fn the_next_attempt_has_those_that_were_reported() {
    let mut first = Meeting::default();
    first.expect(&manifest());
    first.advance(Stage::Ready);
    first.arrive(container("app", "2"));
    assert_eq!(first.answer("app"), Some(Answer::Waiting));
    first.arrive(container("side", "3"));
    first.end(Outcome::Failed("full".to_owned()));
    assert!(matches!(first.answer("side"), Some(Answer::Refused(_))));

    // The refused one is started again, as another container.
    let mut second = Meeting::default();
    second.arrive(container("side", "4"));
    second.take_over(&first);
    second.expect(&manifest());
    assert!(second.complete());
    assert_eq!(second.here()["side"].container.id, "4");

    // One that was deleted meanwhile does not wait any more.
    first.leave("2");
    let mut third = Meeting::default();
    third.take_over(&first);
    assert!(third.here().is_empty());
}

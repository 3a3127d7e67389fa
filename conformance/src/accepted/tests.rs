use super::*;

fn events(reference: &[&str], ours: &[&str]) -> Difference {
    Difference {
        script: "one".to_owned(),
        kind: Kind::Events,
        step: String::new(),
        before: String::new(),
        reference: reference.join("\n    "),
        ours: ours.join("\n    "),
        messages: Default::default(),
        accepted: Vec::new(),
    }
}

fn whats(difference: &Difference) -> Vec<&'static str> {
    find(difference).iter().map(|one| one.what).collect()
}

const CREATE: &str = "/tasks/create pid init";
const START: &str = "/tasks/start pid init";
const EXIT: &str = "/tasks/exit init status 137";
const DELETE: &str = "/tasks/delete status 137";
const CHECKPOINT: &str = "/tasks/checkpointed";

#[test]
fn every_part_of_a_difference_is_named() {
    let one = events(&[CREATE, START], &[CREATE, START, CHECKPOINT]);
    assert_eq!(whats(&one), [CALLS[0].what]);
    let other = events(&[CREATE, START, EXIT], &[CREATE, START, EXIT, DELETE]);
    assert_eq!(whats(&other), [CALLS[1].what]);
    let both = events(
        &[CREATE, START, EXIT],
        &[CREATE, START, CHECKPOINT, EXIT, DELETE],
    );
    assert_eq!(whats(&both), [CALLS[0].what, CALLS[1].what]);
}

#[test]
fn only_the_reference_may_lack_events() {
    let whole = [CREATE, START, EXIT, DELETE];
    assert!(find(&events(&whole, &[CREATE, START, EXIT])).is_empty());
    assert!(find(&events(&whole, &[CREATE, START, DELETE])).is_empty());
    let checkpoint = events(&[CREATE, START, CHECKPOINT], &[CREATE, START]);
    assert!(find(&checkpoint).is_empty());
    // An end that nobody was told of, of an init that had run.
    assert!(find(&events(&[CREATE, START, DELETE], &whole)).is_empty());
}

#[test]
fn an_init_that_was_never_started_may_be_told_late() {
    let late = events(&[CREATE, DELETE, EXIT], &[CREATE, EXIT, DELETE]);
    assert_eq!(whats(&late), [CALLS[1].what]);
    let never = events(&[CREATE], &[CREATE, EXIT, DELETE]);
    assert_eq!(whats(&never), [CALLS[1].what]);
    let [with, without] = ["with its", "without a"].map(|time| format!("{EXIT}, {time} time"));
    let timeless = events(&[CREATE, DELETE, &without], &[CREATE, &with, DELETE]);
    assert_eq!(whats(&timeless), [CALLS[1].what]);
    // Of an init that ran the time must be there.
    let ran = events(&[CREATE, START, &with], &[CREATE, START, &without]);
    assert!(find(&ran).is_empty());
}

use super::*;

fn event(topic: &str, process: &str) -> Event {
    Event {
        topic: topic.to_owned(),
        container: "c".to_owned(),
        process: process.to_owned(),
        pid: 0,
        detail: String::new(),
    }
}

#[test]
fn execs_that_end_together_have_no_order_and_init_is_last() {
    let exit = |process| event("/tasks/exit", process);
    let (texts, late) = canonical(&[exit("e2"), exit("e1"), exit("c")], "c", |_| String::new());
    assert_eq!(
        texts,
        ["/tasks/exit e1", "/tasks/exit e2", "/tasks/exit init"]
    );
    assert!(late.is_empty());
}

#[test]
fn a_thaw_comes_before_the_ends_that_it_lets_be() {
    let events = [
        event("/tasks/paused", ""),
        event("/tasks/exit", "e1"),
        event("/tasks/resumed", ""),
        event("/tasks/exit", "c"),
    ];
    let (texts, _) = canonical(&events, "c", |_| String::new());
    assert_eq!(
        texts,
        [
            "/tasks/paused",
            "/tasks/resumed",
            "/tasks/exit e1",
            "/tasks/exit init"
        ]
    );
}

#[test]
fn what_comes_after_the_removal_is_late_until_the_next_task() {
    let events = [
        event("/tasks/delete", ""),
        event("/tasks/exit", "c"),
        event("/tasks/create", ""),
    ];
    let (texts, late) = canonical(&events, "c", |_| String::new());
    assert_eq!(texts, ["/tasks/delete", "/tasks/create"]);
    assert_eq!(late, ["/tasks/exit init"]);
}

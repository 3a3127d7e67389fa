use super::*;

#[test]
fn keeps_the_last_lines() {
    assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
    assert_eq!(last_lines("a", 5), "a");
    assert_eq!(last_lines("", 5), "");
}

#[test]
fn failure_names_the_command_and_its_output() {
    let error = run("sh", &["-c", "echo out; echo err >&2; exit 3"])
        .and_then(Output::ok)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("exit code 3") && text.contains("out") && text.contains("err"),
        "{text}"
    );
}

#[test]
fn a_signal_counts_as_in_a_shell() {
    assert_eq!(run("sh", &["-c", "kill -9 $$"]).unwrap().code, 137);
}

use super::*;

const CRIU: &str = "\
(00.000012) Version: 4.2.1 (gitid 0)
(00.012345) Warn  (criu/kerndat.c:1): something
(00.031000)    41: Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using --tcp-established option.
(00.031100) Error (criu/cr-dump.c:1781): Dumping FAILED.
";
const RUNTIME: &str = "\
{\"level\":\"info\",\"msg\":\"hello\"}
not json
{\"level\":\"error\",\"msg\":\"criu failed: type NOTIFY errno 0\"}
";

#[test]
fn criu_error_lines_come_without_time_and_process() {
    let text = criu_errors(CRIU).unwrap();
    assert!(
        text.starts_with("Error (criu/sk-inet.c:188): inet: Connected"),
        "{text}"
    );
    assert!(text.ends_with("Dumping FAILED."), "{text}");
    assert!(!text.contains("Warn"), "{text}");
}

#[test]
fn the_runtimes_messages_are_second_choice_and_the_code_third() {
    let directory = tempfile::tempdir().unwrap();
    let (criu, runtime) = (directory.path().join("a"), directory.path().join("b"));
    assert!(cause(&criu, &runtime, 137).contains("137"));
    fs::write(&runtime, RUNTIME).unwrap();
    assert_eq!(
        cause(&criu, &runtime, 1),
        "criu failed: type NOTIFY errno 0"
    );
    fs::write(&criu, CRIU).unwrap();
    assert!(cause(&criu, &runtime, 1).starts_with("Error (criu"));
}

#[test]
fn a_flood_of_errors_is_cut() {
    let line = format!("Error (x.c:1): {}\n", "ä".repeat(900));
    let text = criu_errors(&line.repeat(50)).unwrap();
    assert!(text.len() <= LONGEST + 3, "{}", text.len());
}

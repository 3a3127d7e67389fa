use super::cause;

#[test]
fn the_last_lines_are_told() {
    let text = "1\n2\n3\n4\n5\n6\n";
    assert_eq!(cause(text), "2; 3; 4; 5; 6");
    assert_eq!(cause(""), "");
}

#[test]
fn an_error_of_apt_is_told_with_what_to_do() {
    let text = "I: running apt-get update...\n\
                E: Release file for http://x/InRelease is expired (invalid since 3d).\n\
                1\n2\n3\n4\n5\n\
                E: apt-get update failed\nI: cleaning up\n";
    let told = cause(text);
    assert!(told.starts_with("E: Release file for http://x/InRelease is expired"));
    assert!(told.contains("E: apt-get update failed; set this machine's clock"));
    assert!(told.contains("--aptopt 'Acquire::Check-Valid-Until \"false\"'"));
    assert!(!cause("E: Unable to locate package x").contains("clock"));
}

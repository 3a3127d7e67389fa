use super::parse;

#[test]
fn the_query_becomes_arguments() {
    let (program, arguments) = parse("binary:///usr/bin/logger?--tag=a%20b&--verbose");
    assert_eq!(program, "/usr/bin/logger");
    assert_eq!(arguments, ["--tag", "a b", "--verbose"]);
}

#[test]
fn a_broken_escape_is_kept() {
    let (program, arguments) = parse("binary:///a%zz%4");
    assert_eq!(program, "/a%zz%4");
    assert!(arguments.is_empty());
}

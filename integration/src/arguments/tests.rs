//! With and without the separator.

use std::ffi::OsString;

use super::without_separator;

fn read(words: &[&str]) -> Vec<OsString> {
    without_separator(words.iter().map(Into::into).collect())
}

#[test]
fn a_separator_before_all_is_left_out() {
    assert_eq!(
        read(&["demo", "--", "--json", "f"]),
        ["demo", "--json", "f"]
    );
    assert_eq!(read(&["demo", "--json", "f"]), ["demo", "--json", "f"]);
    assert_eq!(read(&["demo"]), ["demo"]);
}

#[test]
fn a_separator_further_on_stays() {
    let words = ["testbed", "exec", "a", "--", "ls"];
    assert_eq!(read(&words), words);
}

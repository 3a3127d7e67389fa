use super::*;

#[test]
fn versions_are_compared_by_number() {
    for (text, version) in [
        ("Version: 4.2.1\nGitID: 0\n", Some("4.2.1")),
        ("Version: 4.2\n", Some("4.2")),
        ("Version: 4.10-rc1\n", Some("4.10-rc1")),
        ("Version: 5.0\n", Some("5.0")),
        ("Version: 3.17.1\n", None),
        ("Version: 4.1.1\n", None),
        ("Version: new\n", None),
        ("", None),
    ] {
        assert_eq!(new_enough(text).as_deref(), version, "{text}");
    }
}

#[tokio::test]
async fn the_answer_of_whatever_is_installed_is_typed() {
    match installed(&crate::StandardRunner).await {
        Ok(version) => assert!(numbers(&version) >= numbers(WANTED)),
        Err(EngineError::Missing { .. } | EngineError::TooOld { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

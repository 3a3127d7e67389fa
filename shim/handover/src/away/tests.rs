use super::*;

#[test]
fn a_pod_is_away_as_long_as_its_file_says_so() {
    let run = tempfile::tempdir().unwrap();
    assert_eq!(read(run.path(), "uid-1"), None);
    let away = Away::Parked {
        id: "p1".to_owned(),
    };
    write(run.path(), "uid-1", &away).unwrap();
    let path = file(run.path(), "uid-1").unwrap();
    assert_eq!(read(run.path(), "uid-1"), Some(away));
    fs::write(&path, "{").unwrap();
    assert!(matches!(
        read(run.path(), "uid-1"),
        Some(Away::Moved { .. })
    ));
    remove(run.path(), "uid-1");
    assert_eq!(read(run.path(), "uid-1"), None);
}

#[test]
fn no_uid_leads_out_of_the_folder() {
    for uid in ["", "..", "a/b", ".hidden"] {
        assert_eq!(file(Path::new("/run"), uid), None, "{uid}");
    }
}

use std::fs;

use super::*;

fn checked(text: &str) -> Result<(), EngineError> {
    let image = tempfile::tempdir().unwrap();
    fs::write(image.path().join(FILE), text).unwrap();
    read(image.path()).map(drop)
}

#[test]
fn three_streams_and_no_more() {
    checked(r#"["/dev/null","pipe:[17]","pipe:[18]"]"#).unwrap();
    let error = checked(r#"["a","b","c","pipe:[19]"]"#).unwrap_err();
    assert!(error.to_string().contains("4 descriptors"), "{error}");
    assert!(matches!(
        checked("{}"),
        Err(EngineError::DamagedImage { .. })
    ));
    let long = format!("[\"{}\"]", "x".repeat(100_000));
    assert!(matches!(
        checked(&long),
        Err(EngineError::DamagedImage { .. })
    ));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(read(empty.path()), Err(EngineError::Io { .. })));
}

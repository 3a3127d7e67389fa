use super::*;

fn image(content: Option<&[u8]>) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    if let Some(content) = content {
        fs::write(image.path().join(FILE), content).unwrap();
    }
    image
}

#[test]
fn most_images_have_none() {
    let image = image(None);
    none(image.path()).unwrap();
    let images = [("a".to_owned(), image.path().to_owned())];
    assert!(PodEnds::make(None, &images).unwrap().is_none());
}

#[test]
fn a_container_is_not_restored_without_its_ends() {
    let image = image(Some(&Saved::default().encode()));
    let error = none(image.path()).unwrap_err().to_string();
    assert!(error.contains("restore the pod as a whole"), "{error}");
}

#[test]
fn a_damaged_file_is_named() {
    let image = image(Some(b"MYCEUNIX\x01\x00\xff"));
    let images = [("a".to_owned(), image.path().to_owned())];
    for error in [
        none(image.path()).unwrap_err(),
        PodEnds::make(None, &images).err().unwrap(),
    ] {
        assert!(matches!(error, EngineError::DamagedImage { .. }));
        assert!(error.to_string().contains(FILE), "{error}");
    }
}

use super::*;

#[test]
fn a_layer_takes_the_place_of_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let (staged, upper) = (folder.path().join("staged"), folder.path().join("upper"));
    for way in ["rename", "copy"] {
        let _ = fs::remove_dir_all(&upper);
        fs::create_dir_all(staged.join("etc")).unwrap();
        fs::write(staged.join("etc/a"), "b").unwrap();
        fs::create_dir_all(&upper).unwrap();
        fs::write(upper.join("old"), "x").unwrap();
        match way {
            "rename" => settle(&staged, &upper).unwrap(),
            _ => copy(&staged, &upper).unwrap(),
        }
        assert_eq!(fs::read_to_string(upper.join("etc/a")).unwrap(), "b");
        assert!(!upper.join("old").exists(), "{way}");
        assert!(!folder.path().join("upper.replaced").exists());
    }
}

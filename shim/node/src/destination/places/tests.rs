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

#[test]
fn layers_need_room_beside_what_a_volume_holds() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().canonicalize().unwrap();
    fs::write(volume.join("before"), vec![b'x'; 4 << 20]).unwrap();
    assert!(written_over(&volume, 0) >= 4 * MIB);
    assert_eq!(written_over(&volume, 2), 0);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a stack's marks need root");
        return;
    }
    let layers = receive::begin(&volume, 2).unwrap();
    fs::write(layers[0].join("arrived"), vec![b'x'; 2 << 20]).unwrap();
    let again = written_over(&volume, 2);
    assert!((2 * MIB..4 * MIB).contains(&again), "{again}");
}

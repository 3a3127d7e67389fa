use super::*;

/// A list over one image of 5000 bytes, written by hand: moving it to root needs root.
fn complete_image() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ckpt_redis_1.dmtcp");
    fs::write(&file, vec![7; 5000]).unwrap();
    let list = List {
        version: "5.0".to_owned(),
        peers: 1,
        images: vec![Image {
            name: "ckpt_redis_1.dmtcp".to_owned(),
            size: 5000,
            digest: digest(&regular(&file).unwrap(), &file).unwrap(),
        }],
        sockets: None,
    };
    write(directory.path(), &list);
    directory
}

fn image(directory: &Path) -> PathBuf {
    directory.join(FOLDER).join("ckpt_redis_1.dmtcp")
}

fn write(directory: &Path, list: &List) {
    fs::write(directory.join(LIST), serde_json::to_vec(list).unwrap()).unwrap();
}

#[test]
fn whole_and_partial_images_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["ckpt_a.dmtcp", "ckpt_b.dmtcp.temp", "other"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    let progress = progress(directory.path()).unwrap();
    assert_eq!((progress.complete, progress.partial), (1, 1));
}

#[test]
fn a_complete_image_is_accepted() {
    let directory = complete_image();
    assert!(is_dmtcp(directory.path()));
    let verified = verified(directory.path(), 0).unwrap();
    assert_eq!(verified.list.peers, 1);
    assert_eq!(verified.processes, ["ckpt_redis_1.dmtcp"]);
    assert!(verified.folder.join("ckpt_redis_1_files").is_dir());
    assert!(image(directory.path()).is_file());
    // A restore that failed is tried again.
    super::verified(directory.path(), 0).unwrap();
}

#[test]
fn an_image_without_its_list_is_none() {
    let directory = complete_image();
    fs::remove_file(directory.path().join(LIST)).unwrap();
    assert!(!is_dmtcp(directory.path()));
    assert!(verified(directory.path(), 0).is_err());
}

#[test]
fn what_is_cut_off_or_changed_is_refused() {
    let directory = complete_image();
    let file = directory.path().join("ckpt_redis_1.dmtcp");
    fs::write(&file, vec![7; 4999]).unwrap();
    assert!(matches!(
        verified(directory.path(), 0),
        Err(EngineError::DamagedImage { .. })
    ));
    fs::write(image(directory.path()), vec![8; 5000]).unwrap();
    assert!(matches!(
        verified(directory.path(), 0),
        Err(EngineError::DamagedImage { .. })
    ));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let directory = complete_image();
    let mut list = verified(directory.path(), 0).unwrap().list;
    for name in [
        "../ckpt_x.dmtcp",
        "ckpt_/../x.dmtcp",
        "/etc/passwd",
        "x",
        "",
        "ckpt_a_files/../b",
    ] {
        list.images[0].name = name.to_owned();
        write(directory.path(), &list);
        let error = verified(directory.path(), 0).unwrap_err();
        assert!(matches!(error, EngineError::DamagedImage { .. }), "{name}");
    }
    let link = directory.path().join(FOLDER).join("ckpt_l.dmtcp");
    std::os::unix::fs::symlink("ckpt_redis_1.dmtcp", link).unwrap();
    list.images[0].name = "ckpt_l.dmtcp".to_owned();
    write(directory.path(), &list);
    assert!(verified(directory.path(), 0).is_err());
}

#[test]
fn only_what_belongs_to_an_image_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let partial = partial(directory.path()).unwrap();
    fs::create_dir(partial.join("ckpt_a_files")).unwrap();
    for name in [
        "ckpt_a.dmtcp",
        "ckpt_a_files/deleted",
        "dmtcp_restart_script.sh",
    ] {
        fs::write(partial.join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", partial.join("ckpt_b.dmtcp")).unwrap();
    assert_eq!(
        names(&partial).unwrap(),
        ["ckpt_a.dmtcp", "ckpt_a_files/deleted"]
    );
}

#[test]
fn sockets_come_with_the_image_and_are_checked() {
    let directory = complete_image();
    let text = fs::read(directory.path().join(LIST)).unwrap();
    let mut list: List = serde_json::from_slice(&text).unwrap();
    list.sockets = Some(blake3::hash(b"sockets").to_hex().to_string());
    write(directory.path(), &list);
    assert!(verified(directory.path(), 0).is_err());
    fs::write(directory.path().join(SOCKETS), "sockets").unwrap();
    let found = verified(directory.path(), 0).unwrap().sockets;
    assert_eq!(found.as_deref(), Some(&b"sockets"[..]));
    fs::write(directory.path().join(SOCKETS), "socketz").unwrap();
    let error = verified(directory.path(), 0).unwrap_err();
    assert!(matches!(error, EngineError::DamagedImage { .. }), "{error}");
}

use super::{mirror_in, set_by_cargo};

#[test]
fn finds_the_archive_in_both_formats() {
    let list = "# deb http://old.example/debian x\ndeb [arch=amd64] http://mirror.example/debian forky main\n";
    assert_eq!(mirror_in(list).unwrap(), "http://mirror.example/debian");
    let deb822 = "Types: deb\nURIs: http://mirror.example/debian/\nSuites: forky\n";
    assert_eq!(mirror_in(deb822).unwrap(), "http://mirror.example/debian/");
    assert_eq!(mirror_in("deb http://mirror.example/other x main"), None);
}

#[test]
fn tells_what_cargo_sets_for_a_program_from_what_a_user_sets() {
    assert!(set_by_cargo("CARGO_PKG_NAME") && set_by_cargo("CARGO_MANIFEST_DIR"));
    assert!(set_by_cargo("OUT_DIR"));
    for users in ["CARGO_TARGET_DIR", "CARGO_HOME", "CARGO", "PATH"] {
        assert!(!set_by_cargo(users), "{users}");
    }
}

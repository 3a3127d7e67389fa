use super::*;

#[test]
fn wildcards() {
    assert!(matches("*.toml", "mycedrive.toml"));
    assert!(matches("my*d???e.toml", "mycedrive.toml"));
    assert!(!matches("*.conf", "mycedrive.toml"));
    assert!(!matches("9?-*.toml", "mycedrive.toml"));
}

#[test]
fn directory_of_a_drop_in() {
    let find = |pattern: &str| directory_for(&[pattern.to_owned()], "mycedrive.toml");
    assert_eq!(
        find("/etc/c/conf.d/*.toml").as_deref(),
        Some("/etc/c/conf.d")
    );
    assert_eq!(find("/etc/*/x/*.toml"), None);
    assert_eq!(find("/etc/../x/*.toml"), None);
    assert_eq!(find("/etc/c/one.toml"), None);
}

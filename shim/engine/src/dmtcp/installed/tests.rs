use std::fs;

use super::*;
use crate::StandardRunner;

#[test]
fn versions_are_compared() {
    let version = |text: &str| new_enough(&format!("dmtcp_launch (DMTCP) {text}\nLicense\n"));
    assert_eq!(version("4.1.1").as_deref(), Some("4.1.1"));
    assert_eq!(version("4.2.0-rc1").as_deref(), Some("4.2.0-rc1"));
    assert_eq!(version("5.0").as_deref(), Some("5.0"));
    assert_eq!(version("4.1.0"), None);
    assert_eq!(version("3.2.0"), None);
    assert_eq!(new_enough("bash: not found"), None);
    assert_eq!(new_enough(""), None);
}

#[test]
fn glibc_is_told_from_other_libraries() {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    let mut elf = Elf {
        needed: names(&["libstdc++.so.6", "libc.so.6", "libatomic.so.1"]),
        ..Elf::default()
    };
    elf.wants.insert(
        "libc.so.6".to_owned(),
        ["GLIBC_2.4".to_owned(), "GLIBC_2.34".to_owned()].into(),
    );
    elf.wants.insert(
        "libstdc++.so.6".to_owned(),
        ["GLIBCXX_3.4.32".to_owned()].into(),
    );
    assert_eq!(needs_glibc(&elf), (2, 34));
    let others: BTreeMap<_, _> = others(&elf).collect();
    assert_eq!(others.len(), 2);
    assert!(others["libstdc++.so.6"].contains("GLIBCXX_3.4.32"));
    assert!(others["libatomic.so.1"].is_empty());
}

/// What is configured is taken as it is, and nothing else in its place.
#[tokio::test]
async fn a_configured_prefix_is_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path();
    assert_eq!(find_prefix(Some(prefix)), None);
    let error = Installation::find(&StandardRunner, Some(prefix)).await;
    let text = error.unwrap_err().to_string();
    let says = text.contains("dmtcp_prefix") && text.contains(&prefix.display().to_string());
    assert!(says, "{text}");
    for name in LOADED {
        let file = prefix.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    assert_eq!(find_prefix(Some(prefix)).as_deref(), Some(prefix));
}

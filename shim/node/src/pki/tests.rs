use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

pub(crate) fn ca(dir: &Path) {
    make_ca(&CaRequest {
        out: dir.to_owned(),
        name: "MyceDrive CA".to_owned(),
        days: 10,
        force: false,
    })
    .unwrap();
}

fn node(ca: &Path, out: &Path) -> NodeRequest {
    NodeRequest {
        ca: ca.to_owned(),
        name: "node-a".to_owned(),
        addresses: vec![
            "192.0.2.7".to_owned(),
            "fd00::7".to_owned(),
            "a.example".to_owned(),
        ],
        out: out.to_owned(),
        days: 5,
        force: false,
    }
}

#[test]
fn issues_what_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, out) = (dir.path().join("ca"), dir.path().join("node"));
    ca(&authority);
    issue(&node(&authority, &out)).unwrap();

    let shown = show(&out).unwrap();
    let [ca, node] = shown.as_slice() else {
        panic!("{shown:?}")
    };
    assert!(ca.ca && ca.valid_now && ca.name == "MyceDrive CA");
    assert_eq!(node.name, "node-a");
    assert_eq!(node.issuer, "MyceDrive CA");
    assert_eq!(node.names, ["node-a", "192.0.2.7", "fd00::7", "a.example"]);
    assert!(!node.ca && node.valid_now);
    assert_eq!(node.signed_by_ca, Some(true));
    assert!((4 * 86400..=5 * 86400).contains(&node.seconds_left));
    let der = show::load(&out.join("node.crt")).unwrap();
    assert_eq!(node_name(&der).unwrap(), "node-a");
}

#[test]
fn keys_are_private_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, out) = (dir.path().join("ca"), dir.path().join("node"));
    ca(&authority);
    issue(&node(&authority, &out)).unwrap();
    for key in [authority.join("ca.key"), out.join("node.key")] {
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", key.display());
    }
    let mut names: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["ca.crt", "node.crt", "node.key"]);
}

#[test]
fn overwrites_only_when_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, out) = (dir.path().join("ca"), dir.path().join("node"));
    ca(&authority);
    let mut request = node(&authority, &out);
    issue(&request).unwrap();
    let before = fs::read(out.join("node.crt")).unwrap();
    let refused = issue(&request).unwrap_err().to_string();
    assert!(
        refused.contains("node.crt") && refused.contains("--force"),
        "{refused}"
    );
    assert_eq!(fs::read(out.join("node.crt")).unwrap(), before);
    request.force = true;
    issue(&request).unwrap();
    assert_ne!(fs::read(out.join("node.crt")).unwrap(), before);

    let again = CaRequest {
        out: authority.clone(),
        name: "Other".to_owned(),
        days: 1,
        force: false,
    };
    assert!(make_ca(&again).is_err());
}

#[test]
fn another_ca_does_not_replace_the_nodes_ca_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, out) = (
        dir.path().join("one"),
        dir.path().join("two"),
        dir.path().join("node"),
    );
    ca(&one);
    ca(&two);
    issue(&node(&one, &out)).unwrap();
    fs::remove_file(out.join("node.crt")).unwrap();
    fs::remove_file(out.join("node.key")).unwrap();
    let refused = issue(&node(&two, &out)).unwrap_err().to_string();
    assert!(refused.contains("ca.crt"), "{refused}");
    assert!(!out.join("node.key").exists());
}

#[test]
fn refuses_bad_names_before_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, out) = (dir.path().join("ca"), dir.path().join("node"));
    ca(&authority);
    let mut request = node(&authority, &out);
    request.name = "no such/name".to_owned();
    assert!(issue(&request).unwrap_err().to_string().contains("--name"));
    request.name = "node-a".to_owned();
    request.addresses = vec!["a.example:7843".to_owned()];
    assert!(issue(&request).unwrap_err().to_string().contains("no port"));
    request.addresses.clear();
    request.ca = dir.path().join("none");
    assert!(issue(&request).unwrap_err().to_string().contains("pki ca"));
    assert!(!out.exists());
}

#[test]
fn knows_names() {
    for good in ["node-a", "a.example", "10.0.0.1", "n_1", "A"] {
        assert!(valid_name(good), "{good}");
    }
    for bad in ["", "a..b", "-a", "a-", "a/b", "a b", "a:1", &"x".repeat(64)] {
        assert!(!valid_name(bad), "{bad}");
    }
}

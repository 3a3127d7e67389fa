use serde_json::json;

use super::*;

#[test]
fn an_annotation_is_set_in_a_spec_without_any() {
    for mut spec in [json!({}), json!({ "annotations": null })] {
        set_annotation(&mut spec, "a", "b");
        assert_eq!(annotation(&spec, "a"), Some("b"));
    }
}

#[test]
fn namespaces_are_own_joined_or_the_hosts() {
    let spec = json!({ "linux": { "namespaces": [
        { "type": "pid" }, { "type": "network", "path": "/run/netns/x" }, { "type": "ipc", "path": "" },
    ] } });
    assert_eq!(namespace(&spec, "pid"), Some(None));
    assert_eq!(namespace(&spec, "ipc"), Some(None));
    assert_eq!(namespace(&spec, "network"), Some(Some("/run/netns/x")));
    assert_eq!(namespace(&spec, "uts"), None);
}

#[test]
fn rewriting_keeps_what_is_not_known() {
    let bundle = tempfile::tempdir().unwrap();
    let spec = json!({ "future": { "field": [1, 2] } });
    write(bundle.path(), &spec).unwrap();
    assert_eq!(read(bundle.path()).unwrap(), spec);
    assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 1);
}

#[test]
fn a_broken_spec_names_the_file() {
    let bundle = tempfile::tempdir().unwrap();
    fs::write(path(bundle.path()), "{").unwrap();
    let error = read(bundle.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}

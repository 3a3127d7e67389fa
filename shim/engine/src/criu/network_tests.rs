use std::process::id;

use serde_json::json;

use super::*;

fn spec(path: &str) -> Value {
    json!({"linux": {"namespaces": [{"type": "network", "path": path}]}})
}

#[test]
fn only_a_migration_goes_into_the_pods_namespace() {
    let spec = spec("/proc/self/ns/net");
    assert!(of_pod(&spec, Purpose::Migration).unwrap().is_some());
    let local = Purpose::Local { exit: false };
    assert!(of_pod(&spec, local).unwrap().is_none());
}

#[test]
fn a_namespace_of_the_container_alone_is_in_the_image() {
    for list in [json!([{"type": "network"}]), json!([])] {
        let spec = json!({"linux": {"namespaces": list}});
        assert!(of_pod(&spec, Purpose::Migration).unwrap().is_none());
        assert_eq!(other(&spec, id() as i32), None);
    }
}

#[test]
fn a_namespace_that_is_gone_is_named() {
    let error = of_pod(&spec("/nowhere/net"), Purpose::Migration).unwrap_err();
    assert!(error.to_string().contains("/nowhere/net"), "{error}");
}

#[test]
fn a_process_elsewhere_is_seen() {
    let own = id() as i32;
    assert_eq!(other(&spec("/proc/self/ns/net"), own), None);
    let found = other(&spec("/proc/self/ns/uts"), own).unwrap();
    assert!(found.contains("/proc/self/ns/uts"), "{found}");
}

#[test]
fn processes_in_the_same_namespace_are_no_others() {
    let own = id() as i32;
    assert!(!has_others(own, &[own]));
}

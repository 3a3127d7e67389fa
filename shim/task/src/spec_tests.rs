use serde_json::json;

use super::{Spec, annotation};

fn app() -> Spec {
    Spec::from_json(json!({
        "ociVersion": "1.2.0",
        "unknown": {"kept": true},
        "annotations": {
            annotation::CONTAINER_TYPE: "container",
            annotation::SANDBOX_ID: "sb",
            annotation::MIGRATE_FROM: "a:7843/shop/redis",
            "mycedrive.io/engine": "criu",
        },
        "linux": {"namespaces": [
            {"type": "pid"},
            {"type": "network", "path": "/proc/7/ns/net"},
            {"type": "mount", "path": ""},
        ]},
    }))
}

#[test]
fn the_group_is_the_sandbox() {
    assert_eq!(app().group(), Some("sb"));
    assert!(!app().is_sandbox());
    assert_eq!(Spec::from_json(json!({})).group(), None);
}

#[test]
fn namespaces_are_own_or_joined() {
    let spec = app();
    assert_eq!(spec.namespace_path("network"), Some("/proc/7/ns/net"));
    assert_eq!(spec.namespace_path("mount"), None);
    assert!(spec.has_own_pid_namespace());
    let host = Spec::from_json(json!({"linux": {"namespaces": []}}));
    assert!(!host.has_own_pid_namespace());
}

#[test]
fn a_namespace_is_added_once_and_nothing_is_lost() {
    let mut spec = app();
    spec.add_namespace("time");
    let once = spec.clone();
    spec.add_namespace("time");
    assert!(spec.has_namespace("time"));
    assert_eq!(spec.json(), once.json());
    assert_eq!(spec.json()["unknown"]["kept"], json!(true));
}

#[test]
fn our_annotations_are_found() {
    let ours = app().annotations(annotation::OURS);
    assert_eq!(ours.len(), 2);
    assert_eq!(ours["mycedrive.io/engine"], "criu");
}

#[test]
fn the_criu_annotation_is_refused() {
    let mut spec = app();
    spec.refuse_reserved().unwrap();
    spec.json_mut()["annotations"][annotation::CRIU_CONFIG] = json!("/etc/shadow");
    assert!(spec.refuse_reserved().is_err());
}

use serde_norway::Value;

use super::*;

fn documents(text: &str) -> Vec<Value> {
    use serde::Deserialize;
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, key| &value[key])
}

#[test]
fn every_document_is_an_object_of_kubernetes() {
    let parts = [
        Part::RuntimeClass,
        Part::Rbac,
        Part::Daemonset,
        Part::Examples,
    ];
    let documents = documents(&print(&parts, IMAGE, false));
    let kinds: Vec<&str> = documents
        .iter()
        .map(|document| {
            assert!(document["apiVersion"].is_string());
            assert!(at(document, "metadata.name").is_string());
            document["kind"].as_str().unwrap()
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "RuntimeClass",
            "Namespace",
            "ServiceAccount",
            "ClusterRole",
            "ClusterRole",
            "DaemonSet",
            "Deployment",
            "StatefulSet",
            "Pod"
        ]
    );
}

#[test]
fn selectors_choose_their_own_pods() {
    for document in documents(&print(&[Part::Daemonset, Part::Examples], IMAGE, false)) {
        if let Some(labels) = at(&document, "spec.selector").get("matchLabels") {
            assert_eq!(labels, at(&document, "spec.template.metadata.labels"));
        }
    }
}

#[test]
fn the_examples_use_the_handler() {
    let all = documents(&print(&[Part::RuntimeClass, Part::Examples], IMAGE, false));
    assert_eq!(all[0]["handler"], crate::containerd::HANDLER);
    for document in &all[1..3] {
        assert_eq!(
            *at(document, "spec.template.spec.runtimeClassName"),
            "mycedrive"
        );
    }
    let from = &at(&all[3], "metadata.annotations")["mycedrive.io/migrate-from"];
    assert_eq!(*from, "node-a.example:7843/default/counter-0");
}

#[test]
fn the_image_is_quoted() {
    let hostile = "x\"\nkind: Pod #";
    let all = documents(&print(&[Part::Daemonset], hostile, true));
    let first = &at(&all[0], "spec.template.spec.initContainers")[0];
    assert_eq!(first["image"], hostile);
    let restart = &at(&all[0], "spec.template.spec.initContainers")[1];
    assert_eq!(restart["env"][0]["value"], "yes");
}

use serde_json::json;

use super::*;

#[test]
fn only_other_containers_of_the_pod_belong_to_it() {
    let state = |kind: &str, sandbox: &str| {
        json!({ "config": { "labels": [
                format!("{}={kind}", annotation::CONTAINER_TYPE),
                format!("{}={sandbox}", annotation::SANDBOX_ID),
                "bundle=/b",
            ] } })
    };
    assert!(belongs(&state("container", "s1"), "s1"));
    assert!(!belongs(&state("container", "s2"), "s1"));
    assert!(!belongs(&state("sandbox", "s1"), "s1"));
    assert!(!belongs(&json!(null), "s1"));
    assert_eq!(label(&state("container", "s1"), "bundle"), Some("/b"));
}

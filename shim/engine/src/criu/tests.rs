use std::path::Path;

use serde_json::json;

use super::*;
use crate::{Runtime, StandardRunner};

fn target(bundle: &Path) -> Target {
    Target {
        id: "c1".to_owned(),
        name: "redis".to_owned(),
        bundle: bundle.to_owned(),
        runtime: Runtime {
            binary: "runc".into(),
            root: "/run/runc".into(),
            systemd_cgroup: false,
            no_pivot: false,
        },
        terminal: false,
    }
}

#[tokio::test]
async fn a_prepared_spec_names_a_file_that_is_there() {
    let bundle = tempfile::tempdir().unwrap();
    let criu = Criu::new(Arc::new(StandardRunner));
    let mut spec = json!({});
    criu.prepare(&target(bundle.path()), &mut spec)
        .await
        .unwrap();
    let named = spec::annotation(&spec, CONFIG_ANNOTATION).unwrap();
    assert!(Path::new(named).starts_with(bundle.path()));
    assert!(Path::new(named).exists());
    let once = spec.clone();
    criu.prepare(&target(bundle.path()), &mut spec)
        .await
        .unwrap();
    assert_eq!(spec, once);
}

#[tokio::test]
async fn a_pod_cannot_hand_options_to_criu() {
    let bundle = tempfile::tempdir().unwrap();
    let criu = Criu::new(Arc::new(StandardRunner));
    let mut spec = json!({ "annotations": { "org.criu.config": "/volume/options" } });
    let error = criu
        .prepare(&target(bundle.path()), &mut spec)
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::ReservedAnnotation { .. }));
    assert!(error.to_string().contains("redis"), "{error}");
}

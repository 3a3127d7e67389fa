use serde_json::json;

use super::*;

fn confinement(json: Value) -> Confinement {
    of(&Spec::from_json(json))
}

#[test]
fn order_does_not_matter() {
    let one = confinement(json!({
        "process": { "user": { "uid": 1, "additionalGids": [3, 2] },
            "capabilities": { "bounding": ["CAP_KILL", "CAP_CHOWN"] } },
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "ipc", "path": "/x" }],
            "seccomp": { "defaultAction": "A", "syscalls": [{ "names": ["a"], "action": "B" }] } },
    }));
    let other = confinement(json!({
        "linux": { "seccomp": { "syscalls": [{ "action": "B", "names": ["a"] }], "defaultAction": "A" },
            "namespaces": [{ "type": "ipc", "path": "/y" }, { "type": "pid" }], "maskedPaths": [] },
        "process": { "capabilities": { "bounding": ["CAP_CHOWN", "CAP_KILL"] },
            "user": { "additionalGids": [2, 3], "uid": 1 } },
    }));
    assert_eq!(one, other);
    assert_eq!(one.namespaces, ["ipc", "pid"]);
    assert!(!one.seccomp.is_empty());
}

#[test]
fn what_matters_shows() {
    let plain = confinement(json!({}));
    assert_eq!(plain, Confinement::default());
    for other in [
        json!({ "process": { "noNewPrivileges": true } }),
        json!({ "process": { "user": { "uid": 5 } } }),
        json!({ "linux": { "seccomp": {} } }),
        json!({ "linux": { "devices": [] } }),
        json!({ "linux": { "resources": { "devices": [{ "allow": true }] } } }),
        json!({ "root": { "readonly": true } }),
    ] {
        assert_ne!(confinement(other.clone()), plain, "{other}");
    }
}

/// Restored processes have the level of the image, and so have the volumes' files: a pod of
/// another level could not use them.
#[test]
fn a_label_is_compared_with_its_level() {
    let label = json!({ "process": { "selinuxLabel": "u:r:container_t:s0:c1,c2" } });
    assert_eq!(confinement(label).selinux_label, "u:r:container_t:s0:c1,c2");
}

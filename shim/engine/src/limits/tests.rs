use serde_json::json;

use super::*;
use crate::process::Capabilities;

fn spec(uid: u32, no_new_privileges: bool) -> Value {
    json!({
        "process": {
            "user": { "uid": uid, "gid": 20, "additionalGids": [30] },
            "noNewPrivileges": no_new_privileges,
            "capabilities": { "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_CHOWN"] },
        },
        "linux": { "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" } },
    })
}

fn process(uid: u32) -> Status {
    Status {
        uids: vec![uid; 4],
        gids: vec![20; 4],
        seccomp: 2,
        no_new_privileges: true,
        capabilities: Capabilities {
            bounding: 0b10_0001,
            permitted: 1,
            effective: 1,
            ..Capabilities::default()
        },
        ..Status::default()
    }
}

fn wider(spec: &Value, status: &Status) -> Option<String> {
    Limits::of(spec).wider(status)
}

#[test]
fn a_process_within_its_spec_passes() {
    assert_eq!(wider(&spec(10, true), &process(10)), None);
    assert_eq!(wider(&spec(0, false), &process(0)), None);
}

#[test]
fn root_may_have_become_somebody_else_but_nobody_becomes_root() {
    assert_eq!(wider(&spec(0, false), &process(33)), None);
    assert!(
        wider(&spec(10, false), &process(0))
            .unwrap()
            .contains("user 0")
    );
    assert!(wider(&spec(10, false), &process(11)).is_some());
}

#[test]
fn one_id_of_four_is_enough() {
    let mut status = process(10);
    status.uids[2] = 0;
    assert!(wider(&spec(10, true), &status).is_some());
    let mut status = process(10);
    status.gids[3] = 30;
    assert_eq!(wider(&spec(10, true), &status), None);
    status.gids[3] = 0;
    assert!(wider(&spec(10, true), &status).unwrap().contains("group 0"));
}

#[test]
fn a_capability_outside_the_bounding_set_is_named() {
    let mut status = process(10);
    status.capabilities.bounding |= 1 << 21;
    let what = wider(&spec(10, true), &status).unwrap();
    assert_eq!(what, "bounding capabilities CAP_SYS_ADMIN");
    let mut status = process(10);
    status.capabilities.effective |= 1 << 63;
    assert!(
        wider(&spec(10, true), &status)
            .unwrap()
            .contains("number 63")
    );
}

#[test]
fn what_cannot_be_gained_must_not_be_there() {
    let mut status = process(10);
    status.capabilities.permitted |= 1 << 5;
    assert_eq!(wider(&spec(10, false), &status), None);
    assert!(wider(&spec(10, true), &status).is_some());
}

#[test]
fn filters_and_no_new_privs_must_be_there() {
    let mut status = process(10);
    status.seccomp = 0;
    assert!(wider(&spec(10, true), &status).unwrap().contains("seccomp"));
    let mut status = process(10);
    status.no_new_privileges = false;
    assert_eq!(wider(&spec(10, false), &status), None);
    assert!(wider(&spec(10, true), &status).is_some());
}

#[test]
fn ids_are_compared_as_the_host_sees_them() {
    let mut spec = spec(10, true);
    let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    spec["linux"]["uidMappings"] = mapping.clone();
    spec["linux"]["gidMappings"] = mapping;
    let mut status = process(100_010);
    status.gids = vec![100_020; 4];
    assert_eq!(wider(&spec, &status), None);
    assert!(wider(&spec, &process(10)).is_some());
}

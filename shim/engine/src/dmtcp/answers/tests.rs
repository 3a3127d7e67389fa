use super::*;

fn rules(spec: &Value) -> &Vec<Value> {
    spec["linux"]["seccomp"]["syscalls"].as_array().unwrap()
}

#[test]
fn a_container_without_a_filter_gets_what_it_needs() {
    let mut spec = json!({ "linux": {} });
    change(&mut spec, (2, 41));
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
    assert_eq!(rules(&spec).len(), 1);
    assert_eq!(rules(&spec)[0]["names"], json!(["io_uring_setup"]));
    assert_eq!(rules(&spec)[0]["errnoRet"], 38);
    assert_eq!(rules(&spec)[0].get("args"), None);
    let mut spec = json!({ "linux": {} });
    change(&mut spec, (2, 43));
    assert_eq!(rules(&spec).len(), 2);
    assert_eq!(rules(&spec)[0]["errnoRet"], 22);
    assert_eq!(rules(&spec)[0]["args"][0]["op"], "SCMP_CMP_EQ");
}

#[test]
fn a_list_of_what_is_allowed_stays_as_narrow() {
    let mut spec = json!({ "linux": { "seccomp": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["read", "madvise", "io_uring_setup"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["madvise"], "action": "SCMP_ACT_ALLOW", "args": [] },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0 }] },
        ],
    }}});
    change(&mut spec, (2, 42));
    let rules = rules(&spec);
    assert_eq!(rules[0]["names"], json!(["read"]));
    assert_eq!(rules[1]["names"], json!(["clone"]));
    assert_eq!(rules[2]["args"][0]["op"], "SCMP_CMP_NE");
    assert_eq!(rules[3]["action"], "SCMP_ACT_ERRNO");
    assert_eq!(rules[4]["names"], json!(["io_uring_setup"]));
    assert_eq!(rules[4]["action"], "SCMP_ACT_ERRNO");
    assert_eq!(rules.len(), 5);
}

#[test]
fn what_is_forbidden_stays_forbidden() {
    let closed = json!({ "linux": { "seccomp": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }],
    }}});
    let mut spec = closed.clone();
    change(&mut spec, (2, 42));
    assert_eq!(spec, closed);
}

use serde_json::json;

use super::*;

#[test]
fn an_ordinary_pods_container_has_no_obstacle_in_its_spec() {
    let spec = json!({ "linux": { "namespaces": [
        { "type": "pid" }, { "type": "network", "path": "/run/netns/x" },
        { "type": "ipc", "path": "/proc/7/ns/ipc" },
    ] } });
    assert!(in_spec(&spec).is_empty());
}

#[test]
fn what_is_the_hosts_or_shared_is_named_with_what_to_do() {
    let spec = json!({ "linux": { "namespaces": [
        { "type": "pid", "path": "/proc/7/ns/pid" }, { "type": "user", "path": "/proc/7/ns/user" },
    ] } });
    let found = in_spec(&spec).join("\n");
    for word in ["hostNetwork", "shareProcessNamespace", "hostUsers"] {
        assert!(found.contains(word), "{found}");
    }
    assert!(in_spec(&json!({})).join("\n").contains("hostPID"));
}

#[test]
fn mptcp_sockets_are_counted() {
    let text = "\
protocol  size sockets  memory press maxhdr  slab module     cl co
MPTCPv6   2128      1       0   no       0   yes  kernel      y  n
TCPv6     2600      3       0   no     320   yes  kernel      y  y
MPTCP     1984      2       0   no       0   yes  kernel      y  n
";
    assert_eq!(mptcp_sockets(text), 3);
    assert_eq!(mptcp_sockets(""), 0);
}

#[test]
fn this_test_has_no_obstacle() {
    let pid = std::process::id() as i32;
    assert_eq!(in_process(pid, pid), Vec::<String>::new());
}

#[test]
fn limits_of_others_need_the_capability() {
    let status = |uid: u32, gid: u32, capabilities: &str| {
        Status::parse(&format!(
            "Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\nCapEff:\t{capabilities}\n"
        ))
    };
    let without = status(0, 0, "000001fffeffffff");
    let with = status(0, 0, "000001ffffffffff");
    assert!(may_read_limits(&without, &status(0, 0, "0")));
    assert!(!may_read_limits(&without, &status(1000, 1000, "0")));
    assert!(!may_read_limits(&without, &status(0, 1000, "0")));
    assert!(may_read_limits(&with, &status(1000, 1000, "0")));
}

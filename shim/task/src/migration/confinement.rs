//! What an OCI spec allows its process, in a form that two nodes can compare.

use mycedrive_proto::shim::Confinement;
use serde_json::Value;

use crate::spec::Spec;

/// Extracts it. Lists whose order means nothing are sorted; a list that is not there and an
/// empty one are the same.
pub fn of(spec: &Spec) -> Confinement {
    let json = spec.json();
    let at = |pointer: &str| json.pointer(pointer);
    let number = |pointer: &str| at(pointer).and_then(Value::as_u64).unwrap_or(0) as u32;
    let truth = |pointer: &str| at(pointer).and_then(Value::as_bool).unwrap_or(false);
    let text = |pointer: &str| {
        at(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let list = |pointer: &str| {
        let mut list: Vec<String> = at(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect();
        list.sort();
        list.dedup();
        list
    };
    let mut groups: Vec<u32> = at("/process/user/additionalGids")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_u64().map(|group| group as u32))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let mut namespaces: Vec<String> = at("/linux/namespaces")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("type")?.as_str().map(str::to_owned))
        .collect();
    namespaces.sort();
    let devices = match (at("/linux/resources/devices"), at("/linux/devices")) {
        (None, None) => String::new(),
        (rules, nodes) => {
            let canonical = |value: Option<&Value>| value.map(canonical).unwrap_or_default();
            digest(&format!("{}\n{}", canonical(rules), canonical(nodes)))
        }
    };
    Confinement {
        uid: number("/process/user/uid"),
        gid: number("/process/user/gid"),
        additional_gids: groups,
        bounding: list("/process/capabilities/bounding"),
        effective: list("/process/capabilities/effective"),
        permitted: list("/process/capabilities/permitted"),
        inheritable: list("/process/capabilities/inheritable"),
        ambient: list("/process/capabilities/ambient"),
        no_new_privileges: truth("/process/noNewPrivileges"),
        seccomp: at("/linux/seccomp")
            .filter(|value| !value.is_null())
            .map(|value| digest(&canonical(value)))
            .unwrap_or_default(),
        apparmor_profile: text("/process/apparmorProfile"),
        selinux_label: text("/process/selinuxLabel"),
        readonly_rootfs: truth("/root/readonly"),
        masked_paths: list("/linux/maskedPaths"),
        readonly_paths: list("/linux/readonlyPaths"),
        namespaces,
        devices,
        ..Confinement::default()
    }
}

/// JSON with the members of every object in order of their names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let members: Vec<String> = members
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
#[path = "confinement_tests.rs"]
mod tests;

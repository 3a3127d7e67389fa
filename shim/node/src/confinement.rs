//! What a container's spec allows its processes: compared between source and destination.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mycedrive_proto::shim::Confinement;
use serde_json::{Value, json};

/// Canonical JSON: the same text for the same rights, whatever the order in the spec.
pub fn canonical(confinement: &Confinement) -> String {
    let set = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list.dedup();
        json!(list)
    };
    let mut groups = confinement.additional_gids.clone();
    groups.sort_unstable();
    groups.dedup();
    let fields: BTreeMap<&str, Value> = BTreeMap::from([
        ("uid", json!(confinement.uid)),
        ("gid", json!(confinement.gid)),
        ("additional_gids", json!(groups)),
        ("bounding", set(&confinement.bounding)),
        ("effective", set(&confinement.effective)),
        ("permitted", set(&confinement.permitted)),
        ("inheritable", set(&confinement.inheritable)),
        ("ambient", set(&confinement.ambient)),
        ("no_new_privileges", json!(confinement.no_new_privileges)),
        ("seccomp", json!(confinement.seccomp)),
        ("apparmor_profile", json!(confinement.apparmor_profile)),
        ("selinux_label", json!(confinement.selinux_label)),
        ("readonly_rootfs", json!(confinement.readonly_rootfs)),
        ("masked_paths", set(&confinement.masked_paths)),
        ("readonly_paths", set(&confinement.readonly_paths)),
        ("namespaces", set(&confinement.namespaces)),
        ("devices", json!(confinement.devices)),
    ]);
    json!(fields).to_string()
}

/// What differs between two canonical texts, one entry per field, for people. Empty when the
/// destination allows exactly what the source does.
pub fn differences(source: &str, destination: &str) -> Vec<String> {
    if source == destination {
        return vec![];
    }
    let parse = |text: &str| serde_json::from_str::<BTreeMap<String, Value>>(text);
    let (Ok(ours), Ok(theirs)) = (parse(source), parse(destination)) else {
        return vec!["the destination's description of its rights is unreadable".to_owned()];
    };
    let mut found = vec![];
    for (field, value) in &ours {
        let other = theirs.get(field).unwrap_or(&Value::Null);
        if value != other {
            found.push(difference(field, value, other));
        }
    }
    for field in theirs.keys().filter(|field| !ours.contains_key(*field)) {
        found.push(format!("{field}: unknown to the source"));
    }
    found
}

fn difference(field: &str, ours: &Value, theirs: &Value) -> String {
    let words = field.replace('_', " ");
    if let (Value::Array(ours), Value::Array(theirs)) = (ours, theirs) {
        let missing = |from: &[Value], of: &[Value]| {
            let list: Vec<String> = of
                .iter()
                .filter(|value| !from.contains(value))
                .map(|value| value.as_str().map_or(value.to_string(), str::to_owned))
                .collect();
            list.join(", ")
        };
        let (only_there, only_here) = (missing(ours, theirs), missing(theirs, ours));
        let mut text = words;
        if !only_there.is_empty() {
            let _ = write!(text, ": only at the destination: {only_there}");
        }
        if !only_here.is_empty() {
            let _ = write!(text, ": only at the source: {only_here}");
        }
        return text;
    }
    if matches!(field, "seccomp" | "devices") {
        return format!("{words}: the two specs differ");
    }
    let hint = if field == "selinux_label" {
        "; the level is made anew for each pod, unless both set the same seLinuxOptions"
    } else {
        ""
    };
    format!("{words}: {ours} at the source, {theirs} at the destination{hint}")
}

#[cfg(test)]
mod tests;

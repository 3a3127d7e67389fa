//! Guard pages below thread stacks, as glibc 2.42 makes them, end a checkpoint of DMTCP (up to
//! 5.0): it takes them for memory that is in use, and cannot read them.
//!
//! glibc falls back to pages without access when `madvise(MADV_GUARD_INSTALL)` fails, and those
//! DMTCP knows. So the container's seccomp filter answers that one call with `EINVAL`, as kernels
//! before 6.13 do.

use serde_json::{Value, json};

/// The first glibc that uses them.
const GLIBC: (u32, u32) = (2, 42);
/// `MADV_GUARD_INSTALL`, `asm-generic/mman-common.h`.
const INSTALL: u32 = 102;

/// Changes the spec of a container whose image has this glibc.
pub(super) fn forbid(spec: &mut Value, glibc: (u32, u32)) {
    if glibc < GLIBC {
        return;
    }
    let rule = |action: &str, op: &str| {
        let mut rule = json!({
            "names": ["madvise"],
            "action": action,
            "args": [{ "index": 2, "value": INSTALL, "op": op }],
        });
        if action == "SCMP_ACT_ERRNO" {
            rule["errnoRet"] = libc::EINVAL.into();
        }
        rule
    };
    let forbidden = rule("SCMP_ACT_ERRNO", "SCMP_CMP_EQ");
    let Some(linux) = spec.get_mut("linux").and_then(Value::as_object_mut) else {
        return;
    };
    let seccomp = linux.entry("seccomp").or_insert(Value::Null);
    if !seccomp.is_object() {
        *seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [forbidden] });
        return;
    }
    let open = seccomp["defaultAction"] == "SCMP_ACT_ALLOW";
    let Some(rules) = seccomp.get_mut("syscalls").and_then(Value::as_array_mut) else {
        if open {
            seccomp["syscalls"] = json!([forbidden]);
        }
        return;
    };
    // A rule without arguments would be the one that counts.
    let mut allowed = false;
    for own in rules.iter_mut() {
        let always = own
            .get("args")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty);
        if own["action"] == "SCMP_ACT_ALLOW"
            && always
            && let Some(names) = own.get_mut("names").and_then(Value::as_array_mut)
        {
            let before = names.len();
            names.retain(|name| name != "madvise");
            allowed |= names.len() != before;
        }
    }
    rules.retain(|own| {
        own["names"]
            .as_array()
            .is_none_or(|names| !names.is_empty())
    });
    if allowed {
        rules.push(rule("SCMP_ACT_ALLOW", "SCMP_CMP_NE"));
    }
    if allowed || open {
        rules.push(forbidden);
    }
}

#[cfg(test)]
mod tests;

//! System calls that DMTCP does not know, answered as an older kernel would, by the container's
//! seccomp filter. Programs have another way for each.
//!
//! - Guard pages below thread stacks, as glibc 2.42 makes them, end a checkpoint of DMTCP (up to
//!   5.0): it takes them for memory that is in use, and cannot read them. glibc falls back to pages
//!   without access when `madvise(MADV_GUARD_INSTALL)` fails with `EINVAL`.
//! - The rings of io_uring are in the process's memory under a name that DMTCP cannot read; it gives
//!   the program up. node, for one, uses threads when `io_uring_setup` fails with `ENOSYS`.

use serde_json::{Value, json};

/// The first glibc that makes guard pages so.
const GUARDS: (u32, u32) = (2, 42);

/// A call that is answered with an error.
struct Answer {
    call: &'static str,
    errno: i32,
    /// Only if this argument has this value.
    argument: Option<(u32, u32)>,
}

/// `MADV_GUARD_INSTALL`, `asm-generic/mman-common.h`.
const GUARD_INSTALL: Answer = Answer {
    call: "madvise",
    errno: libc::EINVAL,
    argument: Some((2, 102)),
};
const IO_URING: Answer = Answer {
    call: "io_uring_setup",
    errno: libc::ENOSYS,
    argument: None,
};

/// Changes the spec of a container whose image has this glibc.
pub(super) fn change(spec: &mut Value, glibc: (u32, u32)) {
    if glibc >= GUARDS {
        GUARD_INSTALL.give(spec);
    }
    IO_URING.give(spec);
}

impl Answer {
    fn give(&self, spec: &mut Value) {
        let Some(linux) = spec.get_mut("linux").and_then(Value::as_object_mut) else {
            return;
        };
        let seccomp = linux.entry("seccomp").or_insert(Value::Null);
        if !seccomp.is_object() {
            *seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [self.rule()] });
            return;
        }
        let open = seccomp["defaultAction"] == "SCMP_ACT_ALLOW";
        let Some(rules) = seccomp.get_mut("syscalls").and_then(Value::as_array_mut) else {
            if open {
                seccomp["syscalls"] = json!([self.rule()]);
            }
            return;
        };
        let allowed = self.no_longer_allowed(rules);
        if let Some((index, value)) = self.argument.filter(|_| allowed) {
            rules.push(json!({
                "names": [self.call],
                "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": index, "value": value, "op": "SCMP_CMP_NE" }],
            }));
        }
        if allowed || open {
            rules.push(self.rule());
        }
    }

    fn rule(&self) -> Value {
        let mut rule = json!({
            "names": [self.call],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": self.errno,
        });
        if let Some((index, value)) = self.argument {
            rule["args"] = json!([{ "index": index, "value": value, "op": "SCMP_CMP_EQ" }]);
        }
        rule
    }

    /// Takes the call out of rules that allow it whatever its arguments: such a rule would be the one
    /// that counts. Whether there was one.
    fn no_longer_allowed(&self, rules: &mut Vec<Value>) -> bool {
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
                names.retain(|name| name != self.call);
                allowed |= names.len() != before;
            }
        }
        rules.retain(|own| {
            own["names"]
                .as_array()
                .is_none_or(|names| !names.is_empty())
        });
        allowed
    }
}

#[cfg(test)]
mod tests;

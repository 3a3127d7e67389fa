//! What an OCI spec allows a process, and whether a process that was restored keeps to it.
//!
//! A restored process brings its user, capabilities and seccomp filter from the image, which came
//! from another node. This is the check that none of it is more than the pod here was granted.

pub(crate) mod mounts;

use serde_json::Value;

use crate::EngineError;
use crate::process::Status;

/// Names of the capabilities in the order of their numbers, `linux/capability.h`.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a spec allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The user its process starts as, on the host.
    uid: u32,
    /// The group, on the host.
    gid: u32,
    /// Further groups, on the host.
    groups: Vec<u32>,
    /// Host id of the container's root; equals 0 without a user namespace.
    root: u32,
    bounding: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
    no_new_privileges: bool,
    seccomp: bool,
}

impl Limits {
    /// Reads them from a spec. What the spec does not say is the narrowest: no capability.
    pub fn of(spec: &Value) -> Self {
        let set = |name: &str| {
            spec.pointer(&format!("/process/capabilities/{name}"))
                .and_then(Value::as_array)
                .map_or(0, |names| mask(names.iter().filter_map(Value::as_str)))
        };
        let id = |pointer: &str| number(spec.pointer(pointer));
        let uid = |inner| mapped(spec, "/linux/uidMappings", inner);
        let gid = |inner| mapped(spec, "/linux/gidMappings", inner);
        Self {
            uid: uid(id("/process/user/uid")),
            gid: gid(id("/process/user/gid")),
            groups: spec
                .pointer("/process/user/additionalGids")
                .and_then(Value::as_array)
                .map(|list| list.iter().map(|group| gid(number(Some(group)))).collect())
                .unwrap_or_default(),
            root: uid(0),
            bounding: set("bounding"),
            permitted: set("permitted"),
            inheritable: set("inheritable"),
            ambient: set("ambient"),
            no_new_privileges: spec
                .pointer("/process/noNewPrivileges")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            seccomp: spec.pointer("/linux/seccomp").is_some_and(Value::is_object),
        }
    }

    /// Whether it may mount file systems: CAP_SYS_ADMIN in its own user namespace.
    pub(crate) fn may_mount(&self) -> bool {
        self.bounding & mask(["CAP_SYS_ADMIN"].into_iter()) != 0
    }

    /// Compares a process with them.
    pub fn check(&self, container: &str, pid: i32, status: &Status) -> Result<(), EngineError> {
        match self.wider(status) {
            None => Ok(()),
            Some(what) => Err(EngineError::Wider {
                container: container.to_owned(),
                pid,
                what,
            }),
        }
    }

    /// The first thing in which the process has more than the spec gives.
    fn wider(&self, status: &Status) -> Option<String> {
        let has = status.capabilities;
        // A program with file capabilities, or root, can gain what is in the bounding set;
        // nobody can once no_new_privs is set.
        let gainable = if self.no_new_privileges && self.uid != self.root {
            self.permitted
        } else {
            self.bounding | self.permitted
        };
        for (name, has, allowed) in [
            ("bounding", has.bounding, self.bounding),
            ("permitted", has.permitted, gainable),
            ("effective", has.effective, gainable),
            ("inheritable", has.inheritable, self.inheritable | gainable),
            ("ambient", has.ambient, self.ambient | gainable),
        ] {
            if has & !allowed != 0 {
                return Some(format!("{name} capabilities {}", names(has & !allowed)));
            }
        }
        // Root may become anybody. Anybody else has no way to become somebody.
        if self.uid != self.root {
            if let Some(uid) = status.uids.iter().find(|uid| **uid != self.uid) {
                return Some(format!("user {uid}, allowed is {}", self.uid));
            }
            let known = |gid: &u32| *gid == self.gid || self.groups.contains(gid);
            if let Some(gid) = status.gids.iter().find(|gid| !known(gid)) {
                return Some(format!("group {gid}, allowed is {}", self.gid));
            }
        }
        if self.no_new_privileges && !status.no_new_privileges {
            return Some("no_new_privs is not set".to_owned());
        }
        if self.seccomp && status.seccomp != 2 {
            return Some("no seccomp filter".to_owned());
        }
        None
    }
}

/// Capability names to bits. Unknown names give nothing.
fn mask<'a>(names: impl Iterator<Item = &'a str>) -> u64 {
    names
        .filter_map(|name| CAPABILITIES.iter().position(|known| *known == name))
        .fold(0, |mask, number| mask | 1 << number)
}

/// Bits to capability names.
fn names(mask: u64) -> String {
    let names: Vec<String> = (0..64)
        .filter(|number| mask & (1 << number) != 0)
        .map(|number| match CAPABILITIES.get(number) {
            Some(name) => (*name).to_owned(),
            None => format!("number {number}"),
        })
        .collect();
    names.join(", ")
}

fn number(value: Option<&Value>) -> u32 {
    value
        .and_then(Value::as_u64)
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0)
}

/// An id inside the container to the host's, by the spec's mappings.
fn mapped(spec: &Value, mappings: &str, inner: u32) -> u32 {
    let Some(mappings) = spec.pointer(mappings).and_then(Value::as_array) else {
        return inner;
    };
    mappings
        .iter()
        .find_map(|mapping| {
            let offset = inner.checked_sub(number(mapping.get("containerID")))?;
            let inside = offset < number(mapping.get("size"));
            inside.then(|| number(mapping.get("hostID")).wrapping_add(offset))
        })
        .unwrap_or(inner)
}

#[cfg(test)]
mod tests;

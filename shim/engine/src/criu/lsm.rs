//! Whether restored processes have the label that the pod's spec gives (SELinux, AppArmor). CRIU
//! gives them that of the image, or none where it was built without the module's library, as
//! Debian's is without SELinux's: then they would have this program's.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Where the kernel shows its security modules.
const SYS: &str = "/sys";

/// What a process has instead of what the spec gives; `None`: it has that, or the kernel has not got
/// the module, in which case the runtime has not set it for a new container either.
pub(super) fn other(spec: &Value, process: &Path) -> Option<String> {
    other_within(Path::new(SYS), spec, process)
}

fn other_within(sys: &Path, spec: &Value, process: &Path) -> Option<String> {
    let wanted = |key: &str| {
        let text = spec.get("process")?.get(key)?.as_str()?;
        (!text.is_empty()).then_some(text)
    };
    let selinux = sys.join("fs/selinux/enforce").exists();
    if let Some(label) = wanted("selinuxLabel").filter(|_| selinux) {
        let has = read(&process.join("attr/current"));
        if has.as_deref() != Some(label) {
            return Some(said("SELinux label", has, label));
        }
    }
    let apparmor = fs::read_to_string(sys.join("module/apparmor/parameters/enabled"))
        .is_ok_and(|enabled| enabled.trim() == "Y");
    if let Some(profile) = wanted("apparmorProfile").filter(|_| apparmor) {
        let file = process.join("attr/apparmor/current");
        let has = read(&file).or_else(|| read(&process.join("attr/current")));
        // `PROFILE (MODE)`, or `unconfined`.
        let name = has
            .as_deref()
            .map(|has| has.rsplit_once(" (").map_or(has, |(name, _)| name));
        if name != Some(profile) {
            return Some(said("AppArmor profile", has, profile));
        }
    }
    None
}

fn read(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim_end_matches(['\0', '\n']).to_owned())
}

fn said(what: &str, has: Option<String>, wanted: &str) -> String {
    let has = has.unwrap_or_else(|| "none".to_owned());
    format!("{what} {has} instead of {wanted} (criu on this node may be built without that module)")
}

#[cfg(test)]
#[path = "lsm_tests.rs"]
mod tests;

use serde_json::json;

use super::*;

/// A kernel with these modules, and a process with this label.
fn machine(selinux: bool, apparmor: &str, label: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    if selinux {
        write("sys/fs/selinux/enforce", "1");
    }
    write("sys/module/apparmor/parameters/enabled", apparmor);
    write("proc/attr/current", label);
    root
}

fn seen(root: &tempfile::TempDir, process: &Value) -> Option<String> {
    let spec = json!({ "process": process });
    other_within(&root.path().join("sys"), &spec, &root.path().join("proc"))
}

const LABEL: &str = "system_u:system_r:container_t:s0:c229,c933";

#[test]
fn a_process_without_its_selinux_label_is_noticed() {
    let wanted = json!({ "selinuxLabel": LABEL });
    let right = machine(true, "N", &format!("{LABEL}\0"));
    assert_eq!(seen(&right, &wanted), None);
    let free = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023";
    let wrong = machine(true, "N", free);
    let text = seen(&wrong, &wanted).unwrap();
    assert!(text.contains(free) && text.contains(LABEL), "{text}");
    // Nothing was asked for, or there is no SELinux.
    assert_eq!(seen(&wrong, &json!({})), None);
    assert_eq!(seen(&wrong, &json!({ "selinuxLabel": "" })), None);
    assert_eq!(seen(&machine(false, "N", free), &wanted), None);
}

#[test]
fn a_process_without_its_apparmor_profile_is_noticed() {
    let wanted = json!({ "apparmorProfile": "cri-containerd.apparmor.d" });
    let right = machine(false, "Y\n", "cri-containerd.apparmor.d (enforce)\n");
    assert_eq!(seen(&right, &wanted), None);
    let wrong = machine(false, "Y\n", "unconfined\n");
    assert!(seen(&wrong, &wanted).unwrap().contains("unconfined"));
    assert_eq!(seen(&machine(false, "N\n", "unconfined"), &wanted), None);
    let asked_for_none = json!({ "apparmorProfile": "unconfined" });
    assert_eq!(seen(&wrong, &asked_for_none), None);
    // The newer place comes first.
    let both = machine(false, "Y", "unconfined\n");
    let newer = both.path().join("proc/attr/apparmor");
    fs::create_dir_all(&newer).unwrap();
    fs::write(newer.join("current"), "cri-containerd.apparmor.d (enforce)").unwrap();
    assert_eq!(seen(&both, &wanted), None);
}

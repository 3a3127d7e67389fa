use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::json;

use super::{directory, leave};
use crate::spec::Spec;

fn spec(source: &Path) -> Spec {
    Spec::from_json(json!({
        "annotations": { "io.kubernetes.cri.sandbox-id": "sand" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/etc/hostname", "source": source },
        ],
    }))
}

#[test]
fn the_directory_stands_beside_the_sandbox() {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("containers/one");
    let hostname = root.path().join("sandboxes/sand/hostname");
    assert_eq!(directory(&spec(&hostname), "one"), None);
    fs::create_dir_all(&own).unwrap();
    assert_eq!(directory(&spec(&hostname), "one"), Some(own.clone()));
    assert_eq!(directory(&spec(&hostname), "two"), None);
    for other in [
        "sandboxes/other/hostname",
        "elsewhere/sand/hostname",
        "sandboxes/sand/hosts",
    ] {
        assert_eq!(directory(&spec(&root.path().join(other)), "one"), None);
    }
    assert_eq!(directory(&Spec::from_json(json!({})), "one"), None);
    let archive = own.join("ctrd-checkpoint");
    fs::create_dir(&archive).unwrap();
    assert_eq!(directory(&spec(&hostname), "one"), Some(archive));
}

#[test]
fn files_replace_earlier_ones_and_follow_no_link() {
    let root = tempfile::tempdir().unwrap();
    let (work, own) = (root.path().join("work"), root.path().join("own"));
    fs::create_dir_all(&work).unwrap();
    fs::create_dir_all(&own).unwrap();
    let precious = root.path().join("precious");
    fs::write(&precious, "mine").unwrap();
    symlink(&precious, own.join("stats-dump")).unwrap();
    fs::write(own.join("dump.log"), "of an earlier one").unwrap();
    fs::write(work.join("stats-dump"), "new").unwrap();
    leave(&work, &own).unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    assert_eq!(fs::read_to_string(own.join("stats-dump")).unwrap(), "new");
    let mode = fs::metadata(own.join("stats-dump")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert!(!own.join("dump.log").exists());
}

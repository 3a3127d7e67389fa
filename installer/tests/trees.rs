//! Install, install again, uninstall, on every kind of node; failures and
//! deaths at every step.

mod common;

use common::{FailAt, nodes};
use mycedrive_installer::{Error, status, transaction};

#[test]
fn twice_then_away() {
    for (name, tree) in nodes() {
        let before = tree.picture();
        let first = tree.install().unwrap();
        assert!(first.runtime_changed, "{name}: {first:?}");
        let status = status::status(&tree.root()).unwrap();
        assert!(status.complete(), "{name}: {status:?}");
        let after = tree.picture();

        let second = tree.install().unwrap();
        assert!(second.changed.is_empty(), "{name}: {:?}", second.changed);
        assert_eq!(tree.picture(), after, "{name}: second run");

        let away = tree.uninstall().unwrap();
        assert!(away.installed, "{name}");
        assert_eq!(tree.picture(), before, "{name}: uninstalled");
        assert!(!tree.uninstall().unwrap().installed, "{name}");
        assert_eq!(tree.picture(), before, "{name}: uninstalled twice");
    }
}

#[test]
fn a_failed_step_changes_nothing() {
    for (name, tree) in nodes() {
        let before = tree.picture();
        let mut step = 0;
        loop {
            let mut fail = FailAt::new(step, false);
            let result = tree.install_with(&mut fail);
            let Some(hit) = fail.hit else {
                result.unwrap();
                break;
            };
            assert!(
                matches!(result, Err(Error::RolledBack { .. })),
                "{name}: step {step} ({hit}): {result:?}"
            );
            assert_eq!(tree.picture(), before, "{name}: step {step} ({hit})");
            step += 1;
        }
        assert!(step > 10, "{name}: only {step} steps");

        let installed = tree.picture();
        let mut step = 0;
        loop {
            let mut fail = FailAt::new(step, false);
            let result = tree.uninstall_with(&mut fail);
            let Some(hit) = fail.hit else {
                result.unwrap();
                break;
            };
            assert_eq!(
                tree.picture(),
                installed,
                "{name}: uninstall step {step} ({hit})"
            );
            step += 1;
        }
        assert_eq!(tree.picture(), before, "{name}");
    }
}

#[test]
fn a_death_is_put_right_by_the_next_run() {
    for (name, tree) in nodes() {
        let before = tree.picture();
        let mut step = 0;
        loop {
            let mut fail = FailAt::new(step, true);
            let result = tree.install_with(&mut fail);
            let Some(hit) = fail.hit else {
                result.unwrap();
                break;
            };
            transaction::recover(&tree.root()).unwrap();
            if hit.starts_with("create /var/lib/mycedrive") {
                // No journal yet: at most an empty directory is left.
                let _ = std::fs::remove_dir(tree.at("var/lib/mycedrive"));
            }
            assert_eq!(tree.picture(), before, "{name}: step {step} ({hit})");
            step += 1;
        }

        let installed = tree.picture();
        let mut step = 0;
        loop {
            let mut fail = FailAt::new(step, true);
            let result = tree.uninstall_with(&mut fail);
            let Some(hit) = fail.hit else {
                result.unwrap();
                break;
            };
            // The next installation puts it right and then has nothing to do.
            let next = tree.install().unwrap();
            assert!(next.changed.is_empty(), "{name}: step {step} ({hit})");
            assert_eq!(tree.picture(), installed, "{name}: step {step} ({hit})");
            step += 1;
        }
        assert_eq!(tree.picture(), before, "{name}");
    }
}

#[test]
fn a_killed_write_leaves_no_temporary() {
    let (_, tree) = nodes().remove(0);
    let before = tree.picture();
    let mut fail = FailAt::new(30, true);
    let _ = tree.install_with(&mut fail);
    assert!(fail.hit.is_some());
    tree.file("usr/local/bin/.mycedrive.mycedrive-tmp", "half");
    assert!(transaction::recover(&tree.root()).unwrap());
    assert_eq!(tree.picture(), before);
}

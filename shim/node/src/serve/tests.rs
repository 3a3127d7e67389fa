use std::path::Path;

use super::*;
use crate::progress::{Phase, Progress, Side};

#[tokio::test]
async fn sockets_are_private_and_stale_ones_are_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    drop(sockets::listen(&path).await.unwrap());
    assert!(path.exists(), "stale");
    let living = sockets::listen(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = sockets::listen(&path).await.unwrap_err().to_string();
    assert!(error.contains("another"), "{error}");
    drop(living);
}

#[test]
fn one_daemon_per_state_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = sockets::lock(dir.path()).unwrap();
    let error = sockets::lock(dir.path()).unwrap_err().to_string();
    assert!(error.contains("daemon.lock"), "{error}");
    drop(first);
    sockets::lock(dir.path()).unwrap();
}

#[tokio::test]
async fn bad_keys_are_said_before_anything_answers() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let error = serve_until(config, std::future::pending())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("mycedrive pki"), "{error}");
    assert!(!dir.path().join("run/node.sock").exists());
}

fn config(dir: &Path) -> Config {
    Config {
        pki_dir: dir.join("pki"),
        listen: ([127, 0, 0, 1], 0).into(),
        state_dir: dir.join("state"),
        ..Config::default()
    }
    .completed(Some(dir.join("run")), "node-a")
}

#[test]
fn images_of_no_migration_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    prepare(&config).unwrap();
    let (live, over, unknown) = (
        config.images_of("live"),
        config.images_of("over"),
        config.images_of("unknown"),
    );
    for dir in [&live, &over, &unknown] {
        files::make_private_dir(&dir.join("redis")).unwrap();
    }
    let peers = Peers::new(config.pki_dir.clone(), GRACE);
    let app = App::new(config, peers);
    app.migrations.enter(Progress::new("live", Side::Source));
    let ended = app.migrations.enter(Progress::new("over", Side::Source));
    ended.phase(Phase::RolledBack, "");
    janitor::remove_orphaned_images(&app);
    assert!(live.exists() && !over.exists() && !unknown.exists());
}

#[test]
fn engine_logs_of_forgotten_migrations_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    prepare(&config).unwrap();
    let logs = config.engine_logs_dir();
    for name in ["known-source", "forgotten-source", "junk"] {
        files::make_private_dir(&logs.join(name).join("redis")).unwrap();
    }
    let link = logs.join("forgotten-destination");
    std::os::unix::fs::symlink(dir.path().join("gone"), &link).unwrap();
    let app = App::new(config.clone(), Peers::new(config.pki_dir, GRACE));
    app.migrations.enter(Progress::new("known", Side::Source));
    janitor::remove_orphaned_logs(&app);
    let left: Vec<_> = std::fs::read_dir(&logs).unwrap().flatten().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].file_name(), "known-source");
}

#[test]
fn timelines_come_back_and_old_ones_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let migrations = crate::migrations::Migrations::new(dir.path().to_owned());
    for id in ["one1", "two2", "open"] {
        let handle = migrations.enter(Progress::new(id, Side::Destination));
        if id != "open" {
            handle.phase(Phase::Completed, "");
        }
        handle.save();
    }
    std::fs::write(dir.path().join("junk"), "x").unwrap();
    let again = crate::migrations::Migrations::new(dir.path().to_owned());
    again.load();
    assert_eq!(again.list().len(), 3);
    assert_eq!(again.prune(1), 1);
    assert_eq!(again.list().len(), 2);
    assert!(again.get("open", Side::Destination).is_some());
    assert!(!again.log_dir("one1").exists(), "the oldest ended one");
}

//! The written configurations, read by real containerds. Name the programs in
//! `MYCEDRIVE_TEST_CONTAINERD` (separated by `:`); skipped without.

mod common;

use std::process::Command;

use common::nodes;

#[test]
fn containerd_sees_both_runtimes() {
    let programs = std::env::var("MYCEDRIVE_TEST_CONTAINERD").unwrap_or_default();
    if programs.is_empty() {
        eprintln!("skipped: MYCEDRIVE_TEST_CONTAINERD names no containerd");
        return;
    }
    for program in programs.split(':') {
        let version = Command::new(program).arg("--version").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let old = version.contains(" 1.");
        for (name, tree) in nodes() {
            if !name.contains("debian") && !name.contains("forky") || old && name.contains("forky")
            {
                continue;
            }
            tree.install().unwrap();
            let config = tree.at("etc/containerd/config.toml");
            // The imports are absolute paths of the node.
            let text = std::fs::read_to_string(&config).unwrap();
            let inside = tree.at("etc/containerd/conf.d");
            let text = text.replace("/etc/containerd/conf.d", inside.to_str().unwrap());
            std::fs::write(&config, text).unwrap();
            let output = Command::new(program)
                .arg("--config")
                .arg(&config)
                .args(["config", "dump"])
                .output()
                .unwrap();
            let dump = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}, {version}: {errors}");
            for wanted in [
                "containerd.runtimes.mycedrive]",
                "containerd.runtimes.runc]",
                "io.containerd.mycedrive.v2",
                "mycedrive.io/*",
            ] {
                assert!(dump.contains(wanted), "{name}, {version}: no {wanted}");
            }
            eprintln!("{name}: {}", version.trim());
        }
    }
}

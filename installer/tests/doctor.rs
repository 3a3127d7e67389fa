//! Doctor, status and the command line.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output};

use common::{CUSTOM_2, Tree};
use mycedrive_installer::doctor::{Finding, Level, examine};
use mycedrive_installer::status::{State, status};

fn finding(tree: &Tree, what: &str) -> Finding {
    let findings = examine(&tree.root()).unwrap();
    findings.into_iter().find(|f| f.what == what).unwrap()
}

fn package(tree: &Tree, name: &str, version: &str) {
    let path = "var/lib/dpkg/status";
    let status = tree.text(path);
    let ours = format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.file(path, &(status + &ours));
    tree.file(&format!("usr/sbin/{name}"), "");
}

#[test]
fn says_what_works_without_an_engine() {
    let tree = Tree::debian("2.1.9~ds1-1");
    let criu = finding(&tree, "CRIU");
    assert_eq!(criu.level, Level::Error);
    assert!(criu.advice.contains("none can be checkpointed"), "{criu:?}");

    tree.file("opt/dmtcp/bin/dmtcp_launch", "");
    assert_eq!(finding(&tree, "DMTCP").level, Level::Ok);
    tree.file(
        "etc/mycedrive/config.toml",
        "dmtcp_prefix = \"/srv/dmtcp\"\n",
    );
    let dmtcp = finding(&tree, "DMTCP");
    assert!(dmtcp.found.contains("/srv/dmtcp"), "{dmtcp:?}");
    tree.file("srv/dmtcp/bin/dmtcp_launch", "");
    assert_eq!(finding(&tree, "DMTCP").level, Level::Ok);
    let criu = finding(&tree, "CRIU");
    assert_eq!(criu.level, Level::Warning);
    assert!(criu.advice.contains("static, musl and Go"), "{criu:?}");

    package(&tree, "criu", "3.17.1-2+deb12u2");
    assert!(finding(&tree, "CRIU").advice.contains("older than 4.2"));
}

#[test]
fn knows_old_programs() {
    let tree = Tree::debian("1.6.20~ds1-1+deb12u3");
    assert_eq!(finding(&tree, "containerd").level, Level::Warning);
    assert_eq!(finding(&tree, "runc").level, Level::Error);
    package(&tree, "runc", "1.1.5+ds1-1+b1");
    assert!(finding(&tree, "runc").advice.contains("time namespaces"));
    package(&tree, "criu", "4.2.1-1");
    assert_eq!(finding(&tree, "CRIU").level, Level::Ok);
}

#[test]
fn sees_the_handler_and_the_programs() {
    let tree = Tree::debian("2.1.9~ds1-1");
    tree.file("etc/containerd/config.toml", CUSTOM_2);
    assert_eq!(finding(&tree, "handler").level, Level::Error);
    assert_eq!(finding(&tree, "shim").level, Level::Error);
    tree.install().unwrap();
    assert_eq!(finding(&tree, "handler").level, Level::Ok);
    assert_eq!(finding(&tree, "shim").level, Level::Ok);
    assert_eq!(finding(&tree, "certificates").level, Level::Warning);
}

#[test]
fn status_sees_what_changed() {
    let tree = Tree::debian("2.1.9~ds1-1");
    assert!(!status(&tree.root()).unwrap().complete());
    tree.install().unwrap();
    assert!(status(&tree.root()).unwrap().complete());
    tree.file("etc/mycedrive/config.toml", "# mine\n");
    std::fs::remove_file(tree.at("usr/local/bin/mycedrive")).unwrap();
    let status = status(&tree.root()).unwrap();
    assert!(!status.complete());
    let state = |path: &str| {
        let item = status.items.iter().find(|item| item.path == path);
        item.unwrap().state
    };
    assert_eq!(state("/etc/mycedrive/config.toml"), State::Changed);
    assert_eq!(state("/usr/local/bin/mycedrive"), State::Missing);
}

fn program(tree: &Tree, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mycedrive-installer"))
        .args(args)
        .arg("--root")
        .arg(tree.path())
        .output()
        .unwrap()
}

#[test]
fn the_command_line() {
    let tree = Tree::debian("2.1.9~ds1-1");
    let from = tree.options().from;
    let from = from.to_str().unwrap();
    let before = tree.picture();

    let refused = program(&tree, &["install", "--from", from, "--restart"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(tree.picture(), before);
    let refused = program(&tree, &["install", "--from", "/nonexistent"]);
    assert_eq!(refused.status.code(), Some(2));
    let refused = program(&tree, &["install", "--from", from, "--bin-dir", "/a/../b"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(tree.picture(), before);
    assert_eq!(
        program(&tree, &["status", "--quiet"]).status.code(),
        Some(1)
    );

    let commands = common::temporary();
    let commands = commands.path().join("commands");
    let file = commands.to_str().unwrap();
    let done = program(&tree, &["install", "--from", from, "--commands", file]);
    assert!(done.status.success(), "{done:?}");
    let text = std::fs::read_to_string(&commands).unwrap();
    assert_eq!(
        text,
        "systemctl daemon-reload\nsystemctl restart containerd.service\n\
         systemctl restart mycedrive.service\n"
    );
    let again = program(&tree, &["install", "--from", from, "--commands", file]);
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to do"));
    assert_eq!(std::fs::read_to_string(&commands).unwrap(), "");

    let quiet = program(&tree, &["status", "--quiet"]);
    assert!(quiet.status.success() && quiet.stdout.is_empty());
    let json = program(&tree, &["status", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["handler_in"][0], "/etc/containerd/config.toml");
    let doctor = program(&tree, &["doctor", "--json"]);
    assert_eq!(doctor.status.code(), Some(1), "no engine, no runc");
    let doctor: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!(doctor[0]["level"], "ok");
    assert!(program(&tree, &["recover"]).status.success());

    assert!(program(&tree, &["uninstall"]).status.success());
    assert_eq!(tree.picture(), before);
}

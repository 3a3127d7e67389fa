//! What ends up in the files, and what happens to files that people edit.

#![allow(clippy::unwrap_used)]

mod common;

use common::{CUSTOM_2, DEFAULT_1_6, MAIN_3, Tree};
use mycedrive_installer::containerd::Distribution;
use mycedrive_installer::transaction::NoFaults;
use mycedrive_installer::{Error, install, uninstall};
use toml_edit::DocumentMut;

const CONFIG: &str = "etc/containerd/config.toml";
const CRI_2: &str = "io.containerd.grpc.v1.cri";
const CRI_3: &str = "io.containerd.cri.v1.runtime";

fn doc(text: &str) -> DocumentMut {
    text.parse().unwrap()
}

fn runtimes<'d>(doc: &'d DocumentMut, plugin: &str) -> &'d toml_edit::Item {
    &doc["plugins"][plugin]["containerd"]["runtimes"]
}

fn check_handler(doc: &DocumentMut, plugin: &str) {
    let ours = &runtimes(doc, plugin)["mycedrive"];
    assert_eq!(
        ours["runtime_type"].as_str(),
        Some("io.containerd.mycedrive.v2")
    );
    let passed = ours["pod_annotations"].as_array().unwrap();
    assert!(passed.iter().any(|v| v.as_str() == Some("mycedrive.io/*")));
}

#[test]
fn every_byte_of_a_file_by_hand_stays() {
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(CONFIG, CUSTOM_2);
    tree.install().unwrap();
    let text = tree.text(CONFIG);
    assert!(text.starts_with(CUSTOM_2), "{text}");
    let doc = doc(&text);
    check_handler(&doc, CRI_2);
    // The cgroup driver of the node's runc holds for our pods too.
    let options = &runtimes(&doc, CRI_2)["mycedrive"]["options"];
    assert_eq!(options["SystemdCgroup"].as_bool(), Some(true));
    assert_eq!(
        runtimes(&doc, CRI_2)["runsc"]["runtime_type"].as_str(),
        Some("io.containerd.runsc.v1")
    );
}

#[test]
fn containerd_1_keeps_its_default_runtime() {
    let tree = Tree::debian("1.6.20~ds1-1+deb12u3");
    tree.install().unwrap();
    let text = tree.text(CONFIG);
    let doc = doc(&text);
    assert_eq!(doc["version"].as_integer(), Some(2));
    check_handler(&doc, CRI_2);
    assert_eq!(
        runtimes(&doc, CRI_2)["runc"]["runtime_type"].as_str(),
        Some("io.containerd.runc.v2")
    );
}

#[test]
fn the_default_dump_gets_only_a_block() {
    let tree = Tree::debian("1.6.20~ds1-1+deb12u3");
    tree.file(CONFIG, DEFAULT_1_6);
    tree.install().unwrap();
    let text = tree.text(CONFIG);
    assert!(text.starts_with(DEFAULT_1_6));
    assert!(!text[DEFAULT_1_6.len()..].contains("runtimes.runc"));
}

#[test]
fn version_3_with_imports_gets_a_drop_in() {
    let tree = Tree::debian("2.1.9~ds1-1");
    tree.file(CONFIG, MAIN_3);
    tree.install().unwrap();
    assert_eq!(tree.text(CONFIG), MAIN_3);
    let text = tree.text("etc/containerd/conf.d/mycedrive.toml");
    let doc = doc(&text);
    assert_eq!(doc["version"].as_integer(), Some(3));
    check_handler(&doc, CRI_3);
    let options = &runtimes(&doc, CRI_3)["mycedrive"]["options"];
    assert_eq!(options["SystemdCgroup"].as_bool(), Some(true));
}

#[test]
fn version_2_with_imports_gets_no_drop_in() {
    // containerd 1.x would replace the whole CRI section by the drop-in's.
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(CONFIG, "version = 2\nimports = [\"conf.d/*.toml\"]\n");
    tree.dir("etc/containerd/conf.d");
    tree.install().unwrap();
    assert!(!tree.exists("etc/containerd/conf.d/mycedrive.toml"));
    check_handler(&doc(&tree.text(CONFIG)), CRI_2);
}

#[test]
fn version_2_goes_where_the_section_counts() {
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(
        CONFIG,
        "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
    );
    let cri = "etc/containerd/conf.d/cri.toml";
    tree.file(
        cri,
        &format!("version = 2\n[plugins.\"{CRI_2}\".cni]\n  bin_dir = \"/x\"\n"),
    );
    tree.install().unwrap();
    check_handler(&doc(&tree.text(cri)), CRI_2);
    assert!(!tree.text(CONFIG).contains("mycedrive"));
}

#[test]
fn a_relative_pattern_of_containerd_1_does_not_count() {
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(CONFIG, "version = 2\nimports = [\"conf.d/*.toml\"]\n");
    let section = format!("[plugins.\"{CRI_2}\".cni]\n  bin_dir = \"/x\"\n");
    tree.file("etc/containerd/conf.d/cri.toml", &section);
    tree.install().unwrap();
    check_handler(&doc(&tree.text(CONFIG)), CRI_2);
    assert_eq!(tree.text("etc/containerd/conf.d/cri.toml"), section);
}

#[test]
fn inline_tables_are_extended() {
    let tree = Tree::debian("1.7.24~ds1-6");
    let text = format!(
        "version = 2 # two\n[plugins.\"{CRI_2}\"]\n# inline\ncontainerd = {{ runtimes = {{ runc = \
         {{ runtime_type = \"io.containerd.runc.v2\" }} }} }} # kept\n[debug]\nlevel = \"info\"\n"
    );
    tree.file(CONFIG, &text);
    let before = tree.picture();
    tree.install().unwrap();
    let text = tree.text(CONFIG);
    check_handler(&doc(&text), CRI_2);
    for comment in ["# two", "# inline", "# kept"] {
        assert!(text.contains(comment), "{text}");
    }
    assert!(tree.install().unwrap().changed.is_empty());
    tree.uninstall().unwrap();
    assert_eq!(tree.picture(), before);
}

#[test]
fn a_handler_by_hand_is_only_completed() {
    let tree = Tree::debian("2.1.9~ds1-1");
    let text = format!(
        "version = 3\n[plugins.'{CRI_3}'.containerd.runtimes.mycedrive] # mine\n  runtime_type = \
         'io.containerd.mycedrive.v2'\n  pod_annotations = ['x/*'] # x\n"
    );
    tree.file(CONFIG, &text);
    tree.install().unwrap();
    let text = tree.text(CONFIG);
    check_handler(&doc(&text), CRI_3);
    assert!(text.contains("# mine") && text.contains("'x/*'"), "{text}");
    assert!(!text.contains("mycedrive: begin"));
    assert!(tree.install().unwrap().changed.is_empty());
}

#[test]
fn another_runtime_of_our_name_is_refused() {
    let tree = Tree::debian("2.1.9~ds1-1");
    tree.file(
        CONFIG,
        &format!(
            "version = 3\n[plugins.'{CRI_3}'.containerd.runtimes.mycedrive]\nruntime_type = \
             'io.containerd.runc.v2'\n"
        ),
    );
    let before = tree.picture();
    assert!(matches!(tree.install(), Err(Error::Conflict { .. })));
    assert_eq!(tree.picture(), before);
}

#[test]
fn what_cannot_be_understood_is_left_alone() {
    for text in [
        "disabled_plugins = [\"cri\"]\n",
        "version = 1\n",
        "version = 9\n",
        "version = 2\nthis is not TOML",
    ] {
        let tree = Tree::debian("1.7.24~ds1-6");
        tree.file(CONFIG, text);
        let before = tree.picture();
        let error = tree.install().unwrap_err();
        assert!(
            error.to_string().contains("/etc/containerd/config.toml"),
            "{error}"
        );
        assert_eq!(tree.picture(), before);

        let mut options = tree.options();
        options.runtime_handler = false;
        install::install(&tree.root(), &options, &mut NoFaults).unwrap();
        assert_eq!(tree.text(CONFIG), text);
    }
}

#[test]
fn templates_get_a_block_and_the_cgroup_driver() {
    let tree = Tree::new();
    tree.file("usr/local/bin/k3s", "");
    tree.install().unwrap();
    let dir = "var/lib/rancher/k3s/agent/etc/containerd";
    for (name, plugin) in [("config.toml.tmpl", CRI_2), ("config-v3.toml.tmpl", CRI_3)] {
        let text = tree.text(&format!("{dir}/{name}"));
        assert!(text.starts_with("{{ template \"base\" . }}\n"), "{text}");
        let filled = text
            .replace("{{ template \"base\" . }}", "")
            .replace("{{ .SystemdCgroup }}", "true");
        check_handler(&doc(&filled), plugin);
        assert!(filled.contains("SystemdCgroup = true"));
    }
    let config = tree.text("etc/mycedrive/config.toml");
    assert!(config.contains("/run/k3s/containerd/containerd.sock"));
}

#[test]
fn a_handler_from_a_template_stays_there() {
    // A newer k3s imports drop-ins; what it generated came from our template.
    let tree = Tree::new();
    let dir = "var/lib/rancher/k3s/agent/etc/containerd";
    tree.file(&format!("{dir}/config.toml"), "version = 3\n");
    tree.install().unwrap();
    let template = tree.text(&format!("{dir}/config-v3.toml.tmpl"));
    tree.file(
        &format!("{dir}/config.toml"),
        &format!(
            "version = 3\nimports = [\"/{dir}/config-v3.toml.d/*.toml\"]\n[plugins.'{CRI_3}'\
             .containerd.runtimes.mycedrive]\nruntime_type = \"io.containerd.mycedrive.v2\"\n"
        ),
    );
    assert!(tree.install().unwrap().changed.is_empty());
    assert_eq!(tree.text(&format!("{dir}/config-v3.toml.tmpl")), template);
}

#[test]
fn k0s_is_not_guessed() {
    let tree = Tree::new();
    tree.file("usr/local/bin/k0s", "");
    let before = tree.picture();
    assert!(matches!(tree.install(), Err(Error::ConfigVersion { .. })));
    assert_eq!(tree.picture(), before);
    let mut options = tree.options();
    options.config_version = Some(3);
    install::install(&tree.root(), &options, &mut NoFaults).unwrap();
    check_handler(
        &doc(&tree.text("etc/k0s/containerd.d/mycedrive.toml")),
        CRI_3,
    );
}

#[test]
fn a_k0s_that_is_not_managed_is_edited() {
    let tree = Tree::new();
    tree.file("etc/k0s/containerd.toml", "version = 2\n# mine\n");
    tree.install().unwrap();
    check_handler(&doc(&tree.text("etc/k0s/containerd.toml")), CRI_2);
    assert!(!tree.exists("etc/k0s/containerd.d"));
}

#[test]
fn another_directory_is_named_to_containerd() {
    let tree = Tree::debian("2.1.9~ds1-1");
    let mut options = tree.options();
    options.bin_dir = "/opt/mycedrive/bin".into();
    install::install(&tree.root(), &options, &mut NoFaults).unwrap();
    let doc = doc(&tree.text(CONFIG));
    assert_eq!(
        runtimes(&doc, CRI_3)["mycedrive"]["runtime_path"].as_str(),
        Some("/opt/mycedrive/bin/containerd-shim-mycedrive-v2")
    );
    let unit = tree.text("etc/systemd/system/mycedrive.service");
    assert!(unit.contains("ExecStart=/opt/mycedrive/bin/mycedrive serve"));
}

#[test]
fn edits_after_the_installation_survive_it() {
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(CONFIG, CUSTOM_2);
    tree.file("etc/criu/runc.conf", "tcp-established\n");
    tree.install().unwrap();
    let edited = tree
        .text(CONFIG)
        .replace("[metrics]", "[debug]\nlevel = \"debug\"\n[metrics]");
    tree.file(CONFIG, &edited);
    tree.file("etc/mycedrive/config.toml", "node_name = \"a\"\n");
    let outcome = tree.uninstall().unwrap();
    assert_eq!(outcome.notes.len(), 3, "{:?}", outcome.notes);
    let text = tree.text(CONFIG);
    assert!(
        text.contains("level = \"debug\"") && !text.contains("mycedrive"),
        "{text}"
    );
    assert_eq!(
        tree.text("etc/mycedrive/config.toml"),
        "node_name = \"a\"\n"
    );
    assert_eq!(tree.text("etc/criu/runc.conf"), "tcp-established\n");
    assert!(!tree.exists("usr/local/bin/mycedrive"));
    assert!(!tree.exists("var/lib/mycedrive"));
}

#[test]
fn force_restores_edited_files_too() {
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(CONFIG, CUSTOM_2);
    let before = tree.picture();
    tree.install().unwrap();
    tree.file(CONFIG, "version = 2\n");
    tree.file("etc/mycedrive/config.toml", "node_name = \"a\"\n");
    uninstall::uninstall(&tree.root(), true, &mut NoFaults).unwrap();
    assert_eq!(tree.picture(), before);
}

#[test]
fn an_upgrade_keeps_the_first_backup() {
    let tree = Tree::debian("1.7.24~ds1-6");
    tree.file(CONFIG, CUSTOM_2);
    tree.file("usr/local/bin/mycedrive", "before all");
    let before = tree.picture();
    tree.install().unwrap();
    tree.add_program("mycedrive");
    tree.add_program("libmycedrive_dmtcp.so");
    let outcome = tree.install().unwrap();
    assert_eq!(
        outcome.changed,
        [
            "/usr/local/bin/mycedrive",
            "/usr/local/lib/mycedrive/libmycedrive_dmtcp.so"
        ]
    );
    tree.uninstall().unwrap();
    assert_eq!(tree.picture(), before);
}

#[test]
fn only_what_was_asked_for_is_configured() {
    let tree = Tree::debian("2.1.9~ds1-1");
    tree.file("usr/local/bin/k3s", "");
    let mut options = tree.options();
    options.distributions = vec![Distribution::K3s];
    install::install(&tree.root(), &options, &mut NoFaults).unwrap();
    assert!(!tree.exists(CONFIG));
}

#[test]
fn a_tree_without_containerd_is_refused() {
    let tree = Tree::new();
    let before = tree.picture();
    assert!(matches!(tree.install(), Err(Error::NoContainerd { .. })));
    assert_eq!(tree.picture(), before);
}

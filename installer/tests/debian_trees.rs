//! Real trees of Debian releases: installed, installed again, uninstalled, compared byte for byte. Name the
//! trees in `MYCEDRIVE_TEST_TREES` (separated by `:`); they are copied. Skipped without.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::temporary;
use mycedrive_installer::install::{self, Options};
use mycedrive_installer::root::Root;
use mycedrive_installer::transaction::NoFaults;
use mycedrive_installer::{status, uninstall};
use tempfile::TempDir;

/// Names, kinds, modes, owners, extended attributes, links and contents of all that is in a tree. The times
/// of directories are not among them: a file that comes and goes leaves its mark there.
fn digest(tree: &Path) -> String {
    let script = "tar --create --sort=name --mtime=@0 --numeric-owner --acls --xattrs --xattrs-include='*' \
                  --pax-option=exthdr.name=%d/%f,delete=atime,delete=ctime \
                  --directory \"$1\" . | sha256sum";
    let output = Command::new("sh")
        .args(["-euc", script, "sh"])
        .arg(tree)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", tree.display());
    String::from_utf8(output.stdout).unwrap()[..16].to_owned()
}

fn version(tree: &Path) -> String {
    let text = std::fs::read_to_string(tree.join("etc/debian_version")).unwrap_or_default();
    text.trim().to_owned()
}

#[test]
fn twice_then_away() {
    let trees = std::env::var("MYCEDRIVE_TEST_TREES").unwrap_or_default();
    if trees.is_empty() {
        eprintln!("skipped: MYCEDRIVE_TEST_TREES names no trees");
        return;
    }
    let programs = temporary();
    for name in [
        "containerd-shim-mycedrive-v2",
        "mycedrive",
        "libmycedrive_dmtcp.so",
    ] {
        std::fs::write(programs.path().join(name), format!("\x7fELF {name}")).unwrap();
    }
    let options = Options::new(programs.path());
    for original in trees.split(':').map(Path::new) {
        let copy = TempDir::new().unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(original.join("."))
            .arg(copy.path())
            .status()
            .unwrap();
        assert!(copied.success());
        let root = || Root::open(copy.path()).unwrap();
        let before = digest(copy.path());
        let first = install::install(&root(), &options, &mut NoFaults).unwrap();
        assert!(first.runtime_changed, "{first:?}");
        assert!(status::status(&root()).unwrap().complete());
        let installed = digest(copy.path());
        let second = install::install(&root(), &options, &mut NoFaults).unwrap();
        assert!(second.changed.is_empty(), "{:?}", second.changed);
        assert_eq!(digest(copy.path()), installed, "installed again");
        uninstall::uninstall(&root(), false, &mut NoFaults).unwrap();
        let after = digest(copy.path());
        assert_eq!(after, before, "uninstalled");
        let (name, version) = (original.display(), version(copy.path()));
        let changed = first.changed.len();
        eprintln!(
            "{name} (Debian {version}): before {before}, installed {installed} ({changed} files), \
             again {installed}, uninstalled {after}"
        );
    }
}

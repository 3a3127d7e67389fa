//! The plugin asks for no newer C library than DMTCP itself.

use crate::pod::{dmtcp, has, plugin};
use std::path::Path;
use std::process::Command;

/// The newest version of glibc whose symbols a library needs.
fn newest(library: &Path) -> (u32, u32) {
    let output = Command::new("objdump")
        .arg("-T")
        .arg(library)
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let versions = text
        .lines()
        .filter(|line| line.contains("*UND*"))
        .filter_map(|line| {
            let (_, rest) = line.split_once("GLIBC_")?;
            let version = rest.split([')', ' ']).next()?;
            let mut parts = version.split('.').map(|part| part.parse().unwrap());
            Some((parts.next()?, parts.next()?))
        });
    versions.max().expect("no symbols of glibc")
}

#[test]
fn no_newer_glibc_than_dmtcp() {
    let Some(prefix) = dmtcp().filter(|_| has("objdump")) else {
        return;
    };
    let theirs = newest(&prefix.join("lib/dmtcp/libdmtcp.so"));
    let ours = newest(plugin().as_ref());
    assert!(ours <= theirs, "plugin: glibc {ours:?}, DMTCP: {theirs:?}");
}

/// Wherever it was built: what the preflight asks of images.
#[test]
fn glibc_2_34_is_enough() {
    if has("objdump") {
        assert!(newest(plugin().as_ref()) <= (2, 34));
    }
}

//! What is printed, and to whom.

use std::io;
use std::process::{Command, Stdio};

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let root = tempfile::tempdir().unwrap();
    let status = |stdout: Stdio| {
        Command::new(env!("CARGO_BIN_EXE_mycedrive-installer"))
            .args(["status", "--root"])
            .arg(root.path())
            .stdout(stdout)
            .status()
            .unwrap()
    };
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_eq!(status(writer.into()), status(Stdio::null()));
}

//! Runs the program as a test of the workspace: the short run unless `MYCEDRIVE_CONFORMANCE` says
//! otherwise. The program speaks the test harness's language itself.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const RUN: &str = "MYCEDRIVE_CONFORMANCE";

fn main() -> ExitCode {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mycedrive-conformance"));
    program.args(std::env::args_os().skip(1));
    if std::env::var_os(RUN).is_none() {
        program.env(RUN, "short");
    }
    let error = program.exec();
    eprintln!("cannot run {}: {error}", program.get_program().display());
    ExitCode::FAILURE
}

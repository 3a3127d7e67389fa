//! `mycedrive`: the node daemon and the operator's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mycedrive_node::cli::main()
}

//! `mycedrive`: the node daemon and the operator's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // By CRIU, which the daemon starts for what a dead shim has left.
    if let Some(code) = mycedrive_engine::tar_if_called() {
        return code;
    }
    mycedrive_node::cli::main()
}

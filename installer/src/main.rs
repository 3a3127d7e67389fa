//! `mycedrive-installer`: see the library.

use std::process::ExitCode;

use clap::Parser;
use mycedrive_installer::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mycedrive-installer: {error}");
            ExitCode::from(2)
        }
    }
}

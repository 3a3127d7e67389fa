//! Generates clients of the two containerd services that the daemon reads, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["containers.proto", "images.proto"], ["proto"])?;
    // Servers are for the tests only.
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

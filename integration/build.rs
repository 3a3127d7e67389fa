//! Generates the clients from `cri/`, in pure Rust: no protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=cri");
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(protox::compile(["runtime.proto", "tasks.proto"], ["cri"])?)?;
    Ok(())
}

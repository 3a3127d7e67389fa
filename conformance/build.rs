//! Generates clients of containerd's services from `proto/`, in pure Rust: no protoc is needed.

use std::error::Error;

const FILES: [&str; 5] = [
    "containers.proto",
    "events.proto",
    "options.proto",
    "task_events.proto",
    "tasks.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        .build_server(false)
        .include_file("containerd_api.rs")
        .compile_fds(protox::compile(FILES, ["proto"])?)?;
    Ok(())
}

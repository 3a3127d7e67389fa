//! Generates Rust from the .proto files, in pure Rust: no protoc is needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use ttrpc_codegen::{Codegen, Customize};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    Codegen::new()
        .out_dir(&out)
        .inputs(["proto/shim.proto", "proto/node.proto"])
        .include("proto")
        .rust_protobuf()
        .customize(Customize {
            async_all: true,
            ..Customize::default()
        })
        .run()?;
    for module in ["shim", "shim_ttrpc", "node", "node_ttrpc"] {
        drop_inner_attributes(&out.join(module).with_extension("rs"))?;
    }
    tonic_prost_build::configure().compile_fds(protox::compile(["migration.proto"], ["proto"])?)?;
    Ok(())
}

/// The generated files open with inner attributes, which `include!` does not allow.
fn drop_inner_attributes(file: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("#![") && !line.starts_with("//!"))
        .collect();
    fs::write(file, kept.join("\n"))?;
    Ok(())
}

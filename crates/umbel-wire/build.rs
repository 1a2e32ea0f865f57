//! Compiles `proto/umbel/v1` with `protox`, so that no `protoc` has to be installed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = ["aggregation", "chunk", "federation", "recording", "round"]
        .map(|name| format!("umbel/v1/{name}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed={}", proto.join(file).display());
    }
    tonic_prost_build::configure()
        // A received chunk is a view of the buffer it was read into, not a copy.
        .bytes(".")
        // Connections are made by this crate's `transport`, never by tonic's own and laxer TLS settings.
        .build_transport(false)
        .compile_fds(protox::compile(&files, [&proto])?)?;
    Ok(())
}

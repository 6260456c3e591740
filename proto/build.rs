//! Generates the wire types and services from `proto/*.proto`; protox needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/scheduler.proto", "proto/worker.proto", "proto/peer.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}

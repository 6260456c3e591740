//! Generates the wire types and services from `proto/*.proto`; protox needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/scheduler.proto", "proto/worker.proto", "proto/peer.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        // Callers build their channels themselves; a generated `connect` would also clash with the worker's call of that name.
        .build_transport(false)
        .bytes(".")
        // Ordered maps, so that one task has one encoding.
        .btree_map(".sched.v1")
        .compile_fds(descriptors)?;
    Ok(())
}

//! The wire: generated types and services, and their conversions to and from `sched-core`.
#![forbid(unsafe_code)]

pub mod convert;
pub mod limits;
pub mod metadata;
pub mod pattern;

/// What clients ask of a cluster.
#[allow(missing_docs, reason = "generated; the .proto files carry the documentation")]
pub mod v1 {
    tonic::include_proto!("sched.v1");
}

/// What a worker and the leader say to each other.
#[allow(missing_docs, reason = "generated; the .proto files carry the documentation")]
pub mod worker {
    tonic::include_proto!("sched.worker.v1");
}

/// What nodes of one cluster say to each other.
#[allow(missing_docs, reason = "generated; the .proto files carry the documentation")]
pub mod peer {
    tonic::include_proto!("sched.peer.v1");
}

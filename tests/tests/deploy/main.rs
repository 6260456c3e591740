//! The forms in which `sched` is deployed, each held against the real thing.
//!
//! - `manifests`: Kubernetes' own schemas and `kubectl kustomize` accept the manifests, and every name, port, path and
//!   setting in them, in the compose file, the Dockerfile and the systemd unit is one that the binary has;
//! - `stateful_set`: three processes with exactly the environment that Kubernetes would give the pods form a cluster;
//! - `containers`: the image is built, the compose file is started, and its leader's container is killed.
//!
//! A test that cannot run on this machine says why. Where `CI=true` is set, that is a failure.

mod containers;
mod manifests;
mod stateful_set;
mod support;

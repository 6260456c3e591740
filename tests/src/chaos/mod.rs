//! Real processes under real faults: what makes the faults, what sees from outside what they did, and the scenarios.
//!
//! Everything happens inside namespaces of its own (`sandbox`): a network of one name space per node (`net`), file systems of one
//! loop device per node (`disk`), processes that end with it. Outside the cluster, and outside every fault, `recorder` hears each
//! task's process start and end, `workload` notes what was asked and what was answered, and `faults` notes what was done and how it
//! is known to have happened. `read` reads every node after the last heal. The four make a [`History`](crate::checker::History), which
//! [`crate::checker`] judges. `mixes` are the scenarios and `figures` what came of them.

mod disk;
mod faults;
mod figures;
mod mixes;
mod net;
mod proxy;
mod read;
mod recorder;
pub mod sandbox;
pub mod shim;
mod watch;
mod workload;
mod world;

pub use figures::{Figures, Outcome};
pub use mixes::{MIXES, Mix, run};

//! Keeps the processes of a run within their bounds, whatever becomes of the agent: one small process per run.
//!
//! ```text
//! agent  -- orders, lease -->  supervisor  -- parent, subreaper -->  the run's process  ->  its children, however they fork
//!        <-- what happened --
//! ```
//!
//! The supervisor starts the run's process and is told of every acknowledged sign of life. By itself, also when the agent is stopped or
//! starved, it ends the tree when the lease is too old or the time limit is over; when the agent is gone, which ends their
//! socket, it ends the tree at once. Nothing can come between the start of a process and its supervision: the supervisor is there
//! first.
//!
//! Nothing leaves the tree: the supervisor is a *subreaper*, so that what double-forks becomes its own child, and it ends only when the
//! kernel says that it has no children. Where the worker is told to use cgroups the tree is in one too: then even what forks
//! faster than it is looked for dies at once, and what a killed supervisor leaves behind is still found.
//!
//! Each supervisor holds a shared lock on one file in the worker's folder. Whoever starts a worker on that folder again waits for the
//! lock, and thereby for the end of everything its predecessor ran.
//!
//! It is a package of its own for the sake of a program of its own: starting the daemon anew for each command cost 5 ms of processor time
//! for loading what a supervisor has no use for.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should say where"))]

pub mod birth;
mod clock;
mod leaf;
mod lease;
mod procs;
mod run;
mod spec;
mod tree;

pub use clock::boot;
pub use leaf::{Leaf, Version};
pub use lease::Lease;
pub use procs::{Stat, processes};
pub use run::main;
pub use spec::{Spec, prefixed};

/// The first argument of a supervisor: the daemon, too, becomes one when it is given this.
pub const SUPERVISOR_ARG: &str = "supervise-process";
/// The name of the program that is nothing else. The number is that of [`Spec`]'s arguments: one that understands others is not found.
pub const PROGRAM: &str = "sched-supervise-1";

//! `sched-raft`, its own sources and openraft itself, on the ground of the simulation.
//!
//! Only two modules are this crate's: `runtime`, whose chance is seeded and which blocks nothing, and `transport`, which dials and serves
//! on the simulated network. The crates of the disk and of `apply` are replaced in the manifest.
// The tests inside the product's files are run where they belong.
#![cfg(not(test))]
#![forbid(unsafe_code)]

#[path = "../../../raft/src/core.rs"]
mod core;
#[path = "../../../raft/src/error.rs"]
mod error;
#[path = "../../../raft/src/fault.rs"]
mod fault;
#[path = "../../../raft/src/formation.rs"]
mod formation;
#[path = "../../../raft/src/join.rs"]
mod join;
#[path = "../../../raft/src/log.rs"]
mod log;
#[path = "../../../raft/src/machine.rs"]
mod machine;
#[allow(dead_code, reason = "bounds of sockets")]
#[path = "../../../raft/src/net/mod.rs"]
mod net;
#[path = "../../../raft/src/options.rs"]
mod options;
#[path = "../../../raft/src/proposer/mod.rs"]
mod proposer;
#[path = "../../../raft/src/reads.rs"]
mod reads;
#[path = "../../../raft/src/record.rs"]
mod record;
#[path = "../../../raft/src/replica.rs"]
mod replica;
#[path = "../../../raft/src/role.rs"]
mod role;
mod runtime;
#[path = "../../../raft/src/shared.rs"]
mod shared;
#[path = "../../../raft/src/transfer.rs"]
mod transfer;
mod transport;
#[path = "../../../raft/src/types.rs"]
mod types;
#[path = "../../../raft/src/watch.rs"]
mod watch;

pub use error::{Fatal, ProposeError, RaftError};
pub use options::{Clock, ELECTION_TIMEOUT_MS_DEFAULT, FATAL_EXIT_CODE, FatalHook, HEARTBEAT_MS_DEFAULT, Options};
pub use proposer::Origin;
pub use replica::Replica;
pub use role::{Formation, Leader, Member, Metrics, Role};

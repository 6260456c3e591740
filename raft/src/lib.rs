//! The replicated log: the only crate that sees openraft.
//!
//! A [`Replica`] keeps one copy of the log and of the tables it produces. What the leader's replica is given to
//! [`propose`](Replica::propose) is applied by every replica in the same order, and is answered once it is applied here and
//! on the disks of a majority.
//!
//! ```text
//! propose ─> proposer: many callers, one entry ─> openraft ─┬─> log (synced) ───────────────┐
//!                                                           ├─> peers: one stream each ─────┤ majority
//!                                                           └─> machine: apply, one batch <─┘
//!                                                                  └─> answers, hints, how far the tables are
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `replica.rs`, `core.rs` | the facade, and what its tasks share |
//! | `proposer.rs` | group commit: bounded lanes, several entries under way, one stamp of leader time per entry |
//! | `reads.rs` | read barriers: one round to a quorum for all that wait |
//! | `machine.rs` | apply, snapshots, install |
//! | `log.rs`, `record.rs` | the log's contract with openraft; every byte that consensus keeps |
//! | `net/` | the wire: streams, votes, snapshots |
//! | `transport/`, `runtime.rs` | the sockets and the threads: with the disk, all there is of the machine |
//! | `formation.rs`, `join.rs` | how a cluster comes into being, and how members come, move and go |
//! | `watch.rs`, `transfer.rs` | roles, fatal states, snapshots and purges; handing over |
//!
//! # Invariants
//!
//! - Nothing is acknowledged before it is synced on a majority and applied here. `Unknown` is the answer whenever that
//!   cannot be told: whoever retries does so under the same request key.
//! - The log is purged only up to a snapshot that is durable, and the tables never hold what their own record of progress
//!   does not name.
//! - A message is read only when cluster, sender, receiver and group are right, and an entry only when its checksums are.
//! - One initial list makes one cluster: an agreement is durable before it is told, and only the member with the lowest
//!   number writes the first membership, once.
//! - A failure of disk or apply is for ever: the replica tells [`Options::on_fatal`] once and serves nothing more.
//!
//! # Caveats
//!
//! - A [`Replica`] runs until [`Replica::shutdown`]; dropping it does not stop it, and the data folder stays in use.
//! - There is one group. Folders and messages carry its number, but requests are not yet spread over several.
//! - Peers speak plain HTTP/2; TLS belongs into `transport/` and nowhere else.
//! - An entry is bounded in commands and bytes, not in the time its apply takes: commands must be bounded themselves.
//! - A follower that needs a snapshot gets it whole; an interrupted transfer starts again from its beginning.
//! - [`Replica::add_learner`] and [`Replica::change_voters`] do not wait until a learner has caught up: look at
//!   [`Member::lag_entries`] before you let it vote.
//! - `members` and `roles` are this node's view, and on a node that was cut off they are old.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should say where"))]

mod core;
mod error;
mod fault;
mod formation;
mod join;
mod log;
mod machine;
mod net;
mod options;
mod proposer;
mod reads;
mod record;
mod replica;
mod role;
mod runtime;
mod shared;
#[cfg(test)]
mod tests;
mod transfer;
mod transport;
mod types;
mod watch;

pub use error::{Fatal, ProposeError, RaftError};
pub use options::{Clock, ELECTION_TIMEOUT_MS_DEFAULT, FATAL_EXIT_CODE, FatalHook, HEARTBEAT_MS_DEFAULT, Options};
pub use proposer::Origin;
pub use replica::Replica;
pub use role::{Formation, Leader, Member, Metrics, Role};

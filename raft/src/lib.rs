//! The replicated log: the only crate that sees openraft.
#![forbid(unsafe_code)]

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
mod shared;
#[cfg(test)]
mod tests;
mod transfer;
mod types;
mod watch;

pub use error::{Fatal, ProposeError, RaftError};
pub use options::{Clock, FATAL_EXIT_CODE, FatalHook, Options};
pub use replica::Replica;
pub use role::{Formation, Leader, Member, Metrics, Role};

//! The replicated log: the only crate that sees openraft.
#![forbid(unsafe_code)]

mod error;
mod options;
mod replica;
mod role;

pub use error::{Fatal, ProposeError, RaftError};
pub use options::{Clock, FATAL_EXIT_CODE, FatalHook, Options};
pub use replica::Replica;
pub use role::{Formation, Leader, Member, Metrics, Role};

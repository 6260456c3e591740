//! The scheduler as a function: tasks, recurrence, commands, `apply`, `plan`, invariants.
//!
//! No I/O, no clock, no runtime, no randomness. Time, ids and zone data come from outside.
#![forbid(unsafe_code)]

pub mod apply;
pub mod calendar;
pub mod check;
pub mod codec;
pub mod command;
pub mod config;
pub mod explain;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod plan;
pub mod run;
pub mod schedule;
pub mod session;
pub mod tables;
pub mod task;
pub mod time;
pub mod validate;

pub use command::{Command, Effect, Entry, Fault, Item, Outcome, Reject, Reply};
pub use ids::{NodeId, RequestKey, RunId, SessionId, TaskId, Token};
pub use time::Timestamp;

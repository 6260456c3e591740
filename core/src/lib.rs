//! The scheduler as a function: tasks, recurrence, commands, `apply`, `plan`, invariants.
//!
//! No I/O, no clock, no runtime, no randomness. Time, ids and zone data come from outside.
#![forbid(unsafe_code)]

pub mod schedule;
pub mod time;

pub use time::Timestamp;

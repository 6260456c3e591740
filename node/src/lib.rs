//! The daemon of `sched`: a voter of the replicated log, the leader's duties, a worker, and the APIs.
//!
//! [`node::Node`] starts and stops all of it; `main` only parses. Where things are:
//!
//! - [`config`] what a node is started with: file, environment, flags
//! - [`clock`] the only place that reads the system clock; [`zones`] the only one that reads zone data
//! - `leader` the duties of a leader: ticker, dispatcher, sessions of workers, spool, retention
//! - `api` the client port: gRPC, health, metrics
//! - [`worker`] takes attempts from the leader and runs them
//! - [`agent`] a worker alone, without a node around it
//! - [`inspect`] looks at the data folder of a node that does not run
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should say where"))]

pub mod agent;
mod api;
mod aside;
mod calendars;
mod channels;
pub mod clock;
pub mod config;
pub mod counters;
mod disk;
mod embedded;
pub mod inspect;
mod leader;
pub mod node;
mod recurrences;
mod shared;
mod state;
mod waits;
pub mod worker;
pub mod zones;

//! `schednode`, its own sources, on the ground of the simulation: the leader's duties, the client port with its gate and services.
//!
//! This crate's own are `clock`, `channels` and `aside`, which stand in for the product's, and [`host`], which starts and crashes a node.
// The tests inside the product's files are run where they belong.
#![cfg(not(test))]
#![deny(unsafe_code)]

#[allow(dead_code, reason = "what serves sockets")]
#[path = "../../../node/src/api/mod.rs"]
mod api;
mod aside;
#[path = "../../../node/src/calendars.rs"]
mod calendars;
mod channels;
pub mod clock;
#[allow(dead_code, reason = "what reads files and flags")]
#[path = "../../../node/src/config/mod.rs"]
pub mod config;
#[path = "../../../node/src/counters.rs"]
pub mod counters;
#[allow(dead_code, reason = "what looks at the real disk")]
#[path = "../../../node/src/disk.rs"]
mod disk;
#[path = "../../../node/src/leader/mod.rs"]
mod leader;
#[path = "../../../node/src/recurrences.rs"]
mod recurrences;
#[allow(dead_code, reason = "what is of the node's own worker")]
#[path = "../../../node/src/shared.rs"]
mod shared;
#[path = "../../../node/src/state.rs"]
mod state;
#[path = "../../../node/src/waits.rs"]
mod waits;
#[allow(dead_code, reason = "what runs processes")]
#[path = "../../../node/src/worker/mod.rs"]
pub mod worker;
#[path = "../../../node/src/zones.rs"]
pub mod zones;

pub mod host;

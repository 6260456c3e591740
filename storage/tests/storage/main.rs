//! Everything that needs a real disk: one binary, because each links RocksDB.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod crash;
mod damage;
mod dir;
mod full;
mod log;
mod queue;
mod snapshot;
mod state;
mod support;

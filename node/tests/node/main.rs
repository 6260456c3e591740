//! The daemon as a whole: the built program, and a node in this process. One binary, because each links RocksDB.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod binary;
mod definitions;
mod notify;
mod one_node;

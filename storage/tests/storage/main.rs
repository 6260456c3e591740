//! Everything that needs a real disk: one binary, because each links RocksDB.

mod crash;
mod damage;
mod dir;
mod full;
mod log;
mod queue;
mod snapshot;
mod state;
mod support;

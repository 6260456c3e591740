//! Everything that needs a real disk: one binary, because each links RocksDB.

mod dir;

mod log;

mod state;
mod support;

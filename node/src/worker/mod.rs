//! The worker: takes attempts from the leader over one stream, runs them, and reports how they ended.

pub mod wire;

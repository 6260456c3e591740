//! Whole replicas in one process: real RocksDB in temporary folders, real sockets on the loopback.

mod cluster;
mod faults;
mod formation;
mod membership;
mod suite;
mod support;

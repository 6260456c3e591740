//! What the tests, the load generators and the benchmark share: clusters of the built binaries, started as processes.
//!
//! [`scenario()`] runs one test on one [`Cluster`], with a deadline, alone on the machine, and prints the nodes' logs when it fails.
//! Nothing here links the daemon: a node is known by its ports, its signals and what it prints, as an operator knows it.
#![forbid(unsafe_code)]

pub mod agent;
pub mod bench;
pub mod binaries;
pub mod chaos;
pub mod checker;
pub mod cli;
pub mod cluster;
pub mod figures;
pub mod fleet;
pub mod guard;
pub mod http;
pub mod load;
pub mod node;
pub mod peers;
pub mod ports;
pub mod procfs;
pub mod recorder;
pub mod scenario;
pub mod soak;
pub mod stats;
pub mod tasks;
pub mod wait;

pub use agent::Agent;
pub use cli::Ran;
pub use cluster::{Cluster, Plan};
pub use fleet::Fleet;
pub use node::{Node, Site};
pub use recorder::{Recorder, Start};
pub use scenario::scenario;
pub use wait::eventually;

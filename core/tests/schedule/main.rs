//! The recurrence engine, as it is used from outside: against python-dateutil, against slow models of our own, against other crates,
//! across the changes of many zones' clocks, and against nonsense.
//!
//! Random tests print their seed; `SEED=n cargo test -p sched-core --test schedule` replays one.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is banned from the state machine is not from its tests"
)]

mod cron;
mod cron_model;
mod dateutil;
mod dst;
mod explain;
mod forms;
mod hostile;
mod model;
mod oracle;
mod support;

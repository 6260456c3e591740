//! Random decisions about workers.

use crate::rng::Rng;
use sched_core::Command;

/// Drains a worker or undrains one, which may not be there.
pub(crate) fn drained(rng: &mut Rng) -> Command {
    let (worker, note) = (format!("w{}", rng.below(4)), String::new());
    if rng.one_in(2) {
        Command::DrainWorker { worker, note }
    } else {
        Command::UndrainWorker { worker }
    }
}

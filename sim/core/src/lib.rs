//! `sched-core` as the simulated replica sees it: the same crate, and around its `apply` the place where mutants of it are made.
//!
//! With no mutant switched on, [`apply::apply_entry`] is the product's own.
// The tests inside the product's files are run where they belong.
#![cfg(not(test))]
#![forbid(unsafe_code)]

mod mutate;

pub use real_core::*;

/// See `sched_core::apply`.
pub mod apply {
    pub use real_core::apply::*;

    use crate::mutate;
    use real_core::command::{Entry, Fault, Outcome};
    use real_core::tables::{Staged, View};

    /// Applies one entry, wrongly when a mutant says so.
    ///
    /// # Errors
    /// Those of the product.
    pub fn apply_entry<V: View>(staged: &mut Staged<V>, at: Position, entry: &Entry) -> Result<Vec<Outcome>, Fault> {
        match sim_ground::world().mutant {
            None => real_core::apply::apply_entry(staged, at, &mutate::delivery(entry)),
            Some(mutant) => mutate::apply(mutant, staged, at, &mutate::delivery(entry)),
        }
    }
}

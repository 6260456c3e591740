//! Compiled schedules, kept for the tasks that fire often.

use sched_core::Reject;
use sched_core::ids::TaskId;
use sched_core::schedule::{Recurrence, Zones};
use sched_core::task::TaskSpec;
use std::collections::{HashMap, VecDeque};

/// Compiled schedules kept: some KiB each, so that this is bounded at some tens of MiB.
const KEPT_MAX: usize = 4096;

/// Compiles a task's schedule. `H` in a cron expression is a hash of the task's name; one without a name hashes its own text, because the
/// id is not known when the first time is computed.
///
/// # Errors
/// Names the part of the schedule that is wrong, and says what would be accepted.
pub(crate) fn compile(spec: &TaskSpec, zones: &dyn Zones) -> Result<Recurrence, Reject> {
    let text;
    let hash_key = match &spec.name {
        Some(name) => name.as_str(),
        None => {
            text = spec.schedule.to_string();
            text.as_str()
        }
    };
    let invalid = |problem| Reject::Invalid {
        field: "schedule".into(),
        problem,
    };
    match guarded(|| Recurrence::compile(&spec.schedule, hash_key, zones)) {
        Some(compiled) => compiled
            .map(|recurrence| recurrence.within(&spec.bounds))
            .map_err(|e| invalid(e.to_string())),
        None => Err(invalid("cannot be compiled: a fault in the program".to_owned())),
    }
}

/// When a schedule that does not compile, or fails while it is searched, is tried again: its zone may come back with an update of the
/// system, its fault may be mended by a new release.
pub(crate) const TRY_AGAIN_MS: i64 = 60 * 60 * 1000;

/// Computes with a schedule. A fault there must not stop all other tasks: it is logged and answered with nothing.
pub(crate) fn guarded<T>(compute: impl FnOnce() -> T) -> Option<T> {
    // What the closure borrows is only read, so that nothing half-changed is seen afterwards.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compute));
    if result.is_err() {
        tracing::error!("computing with a schedule failed: a fault in the program");
    }
    result.ok()
}

/// The compiled schedules used last, each under its task and generation: a change of the task is another entry.
#[derive(Debug, Default)]
pub(crate) struct Recurrences {
    kept: HashMap<(TaskId, u64), (Recurrence, u64)>,
    /// Uses in order, oldest first; one that is not the newest of its key is passed over.
    uses: VecDeque<((TaskId, u64), u64)>,
    clock: u64,
}

impl Recurrences {
    /// Returns the one kept under this key, or what `compile` returns.
    pub(crate) fn get<E>(
        &mut self,
        key: (TaskId, u64),
        compile: impl FnOnce() -> Result<Recurrence, E>,
    ) -> Result<Recurrence, E> {
        self.clock += 1;
        let clock = self.clock;
        self.uses.push_back((key, clock));
        let found = match self.kept.get_mut(&key) {
            Some((recurrence, used)) => {
                *used = clock;
                recurrence.clone()
            }
            None => {
                let recurrence = compile()?;
                self.kept.insert(key, (recurrence.clone(), clock));
                recurrence
            }
        };
        self.trim();
        Ok(found)
    }

    /// Drops the one unused for longest when there are too many. The list of uses is kept within twice the bound.
    fn trim(&mut self) {
        while self.kept.len() > KEPT_MAX || self.uses.len() > 2 * KEPT_MAX {
            let Some((key, used)) = self.uses.pop_front() else {
                return;
            };
            let newest = self.kept.get(&key).is_some_and(|(_, last)| *last == used);
            if newest {
                self.kept.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_core::Timestamp;
    use sched_core::schedule::Schedule;

    struct NoZones;
    impl Zones for NoZones {
        fn zone(&self, _: &str) -> Option<jiff::tz::TimeZone> {
            None
        }
    }

    fn every(ms: u64) -> Recurrence {
        let schedule = Schedule::Every {
            every_ms: ms,
            anchor: Timestamp::EPOCH,
        };
        Recurrence::compile(&schedule, "", &NoZones).unwrap()
    }

    #[test]
    fn a_fault_in_a_search_is_an_answer() {
        assert_eq!(guarded(|| 7), Some(7));
        assert_eq!(guarded(|| -> u64 { panic!("on purpose") }), None);
    }

    #[test]
    fn what_is_used_stays_and_the_number_is_bounded() {
        let mut kept = Recurrences::default();
        let mut compiled = 0;
        for task in 0..3 * KEPT_MAX as u64 {
            for id in [task, 0] {
                let found: Result<_, ()> = kept.get((TaskId(id), 1), || {
                    compiled += 1;
                    Ok(every(1000))
                });
                assert!(found.is_ok());
            }
        }
        assert!(kept.kept.len() <= KEPT_MAX && kept.uses.len() <= 2 * KEPT_MAX);
        assert_eq!(compiled, 3 * KEPT_MAX, "task 0 was compiled once");
    }
}

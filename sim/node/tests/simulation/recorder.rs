//! What really ran: every start and every end of a process, by true time, told by nobody who could be wrong.

use sched_core::codec::{self, Kind};
use sched_core::ids::{RunId, Token};
use sched_core::run::{AttemptEnd, Run};
use sched_core::tables::{Change, Key, Meta, Table};
use sim_ground::World;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Leader time may be so far ahead of a quorum's clocks, and a little for the way.
const EARLY_MS_MAX: i64 = 600;

/// Leader time is within half a second of a majority's clocks, which may be as far from true time.
const AHEAD_MS_MAX: i64 = 1_000;

/// Starts and ends of one seed.
#[derive(Default)]
pub(crate) struct Recorder {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    starts: BTreeMap<RunId, Vec<Token>>,
    executing: BTreeMap<RunId, BTreeSet<Token>>,
    /// How each attempt ended: well or not.
    ended: BTreeMap<Token, bool>,
    /// Attempts whose agent died after it had written down that it starts them: they are told as failed, and may never have begun.
    interrupted: BTreeSet<Token>,
}

/// A process that starts.
pub(crate) struct Start {
    pub(crate) run: RunId,
    pub(crate) token: Token,
    pub(crate) worker: String,
    pub(crate) scheduled_at_ms: i64,
    pub(crate) at_most_once: bool,
}

impl Recorder {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts.
    pub(crate) fn started(&self, world: &World, start: &Start) {
        let Start { run, token, worker, .. } = start;
        world.note(format!("{worker}: starts {run} under {token}"));
        let early = start.scheduled_at_ms - world.now_ms();
        if early > EARLY_MS_MAX {
            world.finding(format!("run {run} starts {early} ms early"));
        }
        let (before, beside) = {
            let mut inner = self.inner();
            let starts = inner.starts.entry(*run).or_default();
            let before = starts.clone();
            starts.push(*token);
            let executing = inner.executing.entry(*run).or_default();
            let beside = executing.clone();
            executing.insert(*token);
            (before, beside)
        };
        if before.contains(token) {
            world.finding(format!("attempt {token} of run {run} is started twice"));
        } else if start.at_most_once && !before.is_empty() {
            world.finding(format!(
                "at-most-once run {run} is started again, under {token} after {before:?}"
            ));
        } else if !beside.is_empty() {
            world.finding(format!("run {run} overlaps itself: {token} beside {beside:?}"));
        }
    }

    /// A process has ended.
    pub(crate) fn ended(&self, world: &World, run: RunId, token: Token, well: bool) {
        world.note(format!(
            "{run} under {token} ends {}",
            if well { "well" } else { "badly" }
        ));
        let mut inner = self.inner();
        inner.ended.insert(token, well);
        if let Some(executing) = inner.executing.get_mut(&run) {
            executing.remove(&token);
        }
    }

    /// An agent finds in its journal that an attempt was about to start.
    pub(crate) fn interrupted(&self, token: Token) {
        self.inner().interrupted.insert(token);
    }

    /// Whether a process of this attempt runs.
    pub(crate) fn executes(&self, run: RunId, token: Token) -> bool {
        self.inner()
            .executing
            .get(&run)
            .is_some_and(|tokens| tokens.contains(&token))
    }

    /// Returns how many processes were started.
    pub(crate) fn count(&self) -> u64 {
        self.inner().starts.values().map(|starts| starts.len() as u64).sum()
    }

    /// Whether a run ever started.
    pub(crate) fn ever_started(&self, run: RunId) -> bool {
        self.inner().starts.contains_key(&run)
    }

    /// Compares what the tables say of attempts with what really became of them.
    pub(crate) fn compare(&self, world: &World, changes: &[Change]) {
        for change in changes {
            if let Change::Put {
                table: Table::Meta,
                value,
                key,
            } = change
                && *key == Key::Meta.encode()
                && let Ok(meta) = codec::decode::<Meta>(Kind::Meta, value)
            {
                let ahead = meta.now.as_millis() - world.now_ms();
                if ahead > AHEAD_MS_MAX {
                    world.finding(format!("the time of the state is {ahead} ms ahead of true time"));
                }
            }
            let Change::Put {
                table: Table::Runs,
                value,
                ..
            } = change
            else {
                continue;
            };
            let Ok(run) = codec::decode::<Run>(Kind::Run, value) else {
                world.finding("a run that cannot be read");
                continue;
            };
            for attempt in &run.attempts {
                let said = match attempt.ended {
                    Some(AttemptEnd::Success) => true,
                    Some(AttemptEnd::Failure) => false,
                    _ => continue,
                };
                let (really, interrupted) = {
                    let inner = self.inner();
                    let really = inner.ended.get(&attempt.token).copied();
                    (really, inner.interrupted.contains(&attempt.token))
                };
                // An agent that died before it wrote the end down tells a failure of a process that ended well, or never began.
                let fits = match really {
                    Some(well) => well || !said,
                    None => interrupted && !said,
                };
                if !fits {
                    let token = attempt.token;
                    world.finding(format!(
                        "run {} under {token} is said to have ended {said}, and did {really:?}",
                        run.id
                    ));
                }
            }
        }
    }
}

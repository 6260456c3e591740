//! What the leader shall propose next, as pure functions of what it sees. `apply` checks every answer again.

use crate::command::{AssignItem, FireItem, MissedRange, Reject};
use crate::ids::{RunId, SessionId, TaskId};
use crate::limits::{FIRE_RUNS_MAX, LATE_NOT_MISSED_MS, ROUND_ITEMS_MAX};
use crate::schedule::{Next, Recurrence, Schedule};
use crate::task::{Missed, NextRun, Policy, ScheduleKind, TaskStatus};
use crate::time::Timestamp;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// When a search that gave up is repeated.
const SEARCH_AGAIN_MS: i64 = 60 * 60 * 1000;
/// Missed occurrences are counted up to here; beyond it the ledger says "at least".
const MISSED_COUNT_MAX: u64 = 10_000;
/// Occurrences that `missed = all` catches up with at once, whatever the task says.
pub const CATCH_UP_MAX: u32 = 1000;

/// Computes the first run time of a task that is being accepted.
///
/// # Errors
/// Refuses an instant in the past that no grace covers (unless `late_ok`), and a schedule without any occurrence from now on.
pub fn first_run(
    schedule: &Schedule,
    recurrence: &Recurrence,
    policy: &Policy,
    late_ok: bool,
    now: Timestamp,
) -> Result<NextRun, Reject> {
    if let Some(at) = schedule.instant() {
        let late_ms = now.millis_since(at);
        if late_ms <= 0 {
            return Ok(NextRun::At(at));
        }
        let covered = u64::try_from(late_ms).is_ok_and(|late| late <= policy.grace_ms);
        if late_ok {
            return Ok(NextRun::At(now));
        }
        if covered && policy.missed != Missed::Skip {
            return Ok(NextRun::At(at));
        }
        let problem = format!(
            "{at} is {late_ms} ms in the past, more than the grace of {} ms; \
             give a later time, a longer grace, or say that late is all right (--late-ok)",
            policy.grace_ms
        );
        return Err(Reject::Invalid {
            field: "schedule.at".into(),
            problem,
        });
    }
    match recurrence.first_from(now) {
        Next::At(at) => Ok(NextRun::At(at)),
        Next::Exhausted if *schedule == Schedule::Manual => Ok(NextRun::Never),
        Next::Exhausted => Err(Reject::Invalid {
            field: "schedule".into(),
            problem: format!("{schedule} has no occurrence after {now}"),
        }),
        next => Ok(next_run(next, now)),
    }
}

/// Turns the answer of a search into what the task's record says.
pub fn next_run(next: Next, now: Timestamp) -> NextRun {
    match next {
        Next::At(at) => NextRun::At(at),
        Next::Exhausted => NextRun::Never,
        Next::GaveUp { searched_until } => NextRun::GaveUp {
            retry_at: now.plus_millis(SEARCH_AGAIN_MS),
            searched_until,
        },
    }
}

/// Computes the run time of a task that leaves the spool or a pause: a one-shot keeps its own, even when it is past, so that the
/// missed-run policy decides about it; a periodic one goes on from now.
pub fn run_time_anew(schedule: &Schedule, recurrence: &Recurrence, now: Timestamp) -> NextRun {
    match schedule.instant() {
        Some(at) => NextRun::At(at),
        None => next_run(recurrence.first_from(now), now),
    }
}

/// Decides what becomes of a task whose cursor is due: which occurrences run, which are missed, where the cursor goes.
///
/// Occurrences younger than [`LATE_NOT_MISSED_MS`] run; older ones are subject to the task's missed-run policy. Returns nothing
/// when nothing is due. When more is due than one `Fire` carries, the new cursor is itself due: ask again.
pub fn plan_fire(id: TaskId, status: &TaskStatus, recurrence: &Recurrence, now: Timestamp) -> Option<FireItem> {
    let NextRun::At(cursor) = status.next else { return None };
    if cursor > now || status.pause.is_some() || status.state.is_ended() {
        return None;
    }
    let item = |runs, missed, next| FireItem {
        task: id,
        generation: status.generation,
        cursor,
        runs,
        missed,
        next,
    };
    if status.kind != ScheduleKind::Periodic {
        return Some(match verdict_of_one_shot(&status.policy, cursor, now) {
            None => item(vec![cursor], None, NextRun::Never),
            Some(reason) => {
                let missed = MissedRange {
                    first: cursor,
                    last: cursor,
                    count: 1,
                    reason,
                };
                item(Vec::new(), Some(missed), NextRun::Never)
            }
        });
    }
    let fresh_from = now.plus_millis(1 - LATE_NOT_MISSED_MS);
    let old = old_occurrences(&status.policy, recurrence, cursor, fresh_from, now);
    let mut runs = old.runs;
    let mut last = old.last;
    let mut next = match last {
        Some(last) => recurrence.next_after(last),
        None => Next::At(cursor),
    };
    while let Next::At(at) = next {
        if at > now || runs.len() >= FIRE_RUNS_MAX {
            break;
        }
        runs.push(at);
        last = Some(at);
        next = recurrence.next_after(at);
    }
    // `cursor` is due, so something was decided about it.
    last?;
    Some(item(runs, old.missed, next_run(next, now)))
}

fn verdict_of_one_shot(policy: &Policy, at: Timestamp, now: Timestamp) -> Option<String> {
    let late_ms = now.millis_since(at);
    if late_ms < LATE_NOT_MISSED_MS {
        return None;
    }
    if policy.missed == Missed::Skip {
        return Some(format!("{late_ms} ms late, and the policy for missed runs is skip"));
    }
    let in_grace = u64::try_from(late_ms).is_ok_and(|late| late <= policy.grace_ms);
    if in_grace {
        None
    } else {
        Some(format!(
            "{late_ms} ms late, more than the grace of {} ms",
            policy.grace_ms
        ))
    }
}

/// What becomes of the occurrences that are too old to be simply late.
#[derive(Default)]
struct Old {
    runs: Vec<Timestamp>,
    missed: Option<MissedRange>,
    /// The last occurrence decided about.
    last: Option<Timestamp>,
}

fn old_occurrences(
    policy: &Policy,
    recurrence: &Recurrence,
    cursor: Timestamp,
    fresh_from: Timestamp,
    now: Timestamp,
) -> Old {
    if cursor >= fresh_from {
        return Old::default();
    }
    let newest = recurrence.latest_in(cursor, fresh_from).unwrap_or(cursor);
    let grace = i64::try_from(policy.grace_ms).unwrap_or(i64::MAX);
    let in_grace_from = now.plus_millis(-grace).max(cursor);
    let mut candidates: Vec<Timestamp> = Vec::new();
    let (want, mut reason) = match policy.missed {
        Missed::Skip => (0, "the policy for missed runs is skip"),
        Missed::Latest => {
            let fresh = matches!(recurrence.next_after(newest), Next::At(at) if at <= now);
            (
                u32::from(!fresh),
                "the policy for missed runs is latest, and a later one was due",
            )
        }
        Missed::All { max } => (
            max.min(CATCH_UP_MAX),
            "more were due than the policy for missed runs catches up with",
        ),
    };
    let mut to = fresh_from;
    while candidates.len() < want as usize {
        match recurrence.latest_in(in_grace_from, to) {
            Some(at) => {
                candidates.push(at);
                to = at;
            }
            None => break,
        }
    }
    candidates.reverse();
    let first_run = candidates.first().copied();
    if want > 0 && candidates.len() < want as usize {
        reason = "later than the grace";
    }
    let missed_to = first_run.unwrap_or(fresh_from);
    let missed = recurrence.latest_in(cursor, missed_to).map(|last| {
        let count = recurrence.count_in(cursor, missed_to, MISSED_COUNT_MAX);
        let at_least = if count == MISSED_COUNT_MAX {
            "at least this many; "
        } else {
            ""
        };
        MissedRange {
            first: cursor,
            last,
            count,
            reason: format!("{at_least}{reason}"),
        }
    });
    candidates.truncate(FIRE_RUNS_MAX);
    let last = candidates.last().copied().or(Some(newest));
    Old {
        runs: candidates,
        missed,
        last,
    }
}

/// A session with room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Whose.
    pub session: SessionId,
    /// Runs it can take now.
    pub free: u32,
    /// Runs it holds now.
    pub busy: u32,
}

/// Spreads ready runs, in their order, over sessions with room: always to the one with the fewest runs.
pub fn plan_assign(ready: &[RunId], rooms: &[Room]) -> Vec<AssignItem> {
    let mut heap: BinaryHeap<Reverse<(u32, SessionId, u32)>> = rooms
        .iter()
        .filter(|room| room.free > 0)
        .map(|room| Reverse((room.busy, room.session, room.free)))
        .collect();
    let mut items = Vec::with_capacity(ready.len().min(ROUND_ITEMS_MAX));
    for run in ready.iter().take(ROUND_ITEMS_MAX) {
        let Some(Reverse((busy, session, free))) = heap.pop() else {
            break;
        };
        items.push(AssignItem { run: *run, session });
        if free > 1 {
            heap.push(Reverse((busy + 1, session, free - 1)));
        }
    }
    items
}

#[cfg(test)]
mod tests;

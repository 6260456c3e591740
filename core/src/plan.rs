//! What the leader shall propose next, as pure functions of what it sees. `apply` checks every answer again.

use crate::command::{AssignItem, FireItem, MissedRange, Reject};
use crate::ids::{RunId, SessionId, TaskId};
use crate::limits::{BACKFILL_MAX, FIRE_RUNS_MAX, LATE_NOT_MISSED_MS, ROUND_ITEMS_MAX};
use crate::schedule::{Next, Recurrence, Schedule};
use crate::task::{Missed, NextRun, Placement, Policy, ScheduleKind, TaskStatus};
use crate::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

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
        Next::Exhausted if matches!(schedule, Schedule::Manual | Schedule::After { .. }) => Ok(NextRun::Never),
        Next::Exhausted => Err(Reject::Invalid {
            field: "schedule".into(),
            problem: format!("{schedule} has no occurrence after {now}, within the task's bounds"),
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

/// Returns the occurrences that a pause kept from running, from the task's cursor to now. A one-shot keeps its own for later.
pub fn paused_range(status: &TaskStatus, recurrence: &Recurrence, now: Timestamp) -> Option<MissedRange> {
    let (NextRun::At(first), ScheduleKind::Periodic, Some(pause)) = (status.next, status.kind, &status.pause) else {
        return None;
    };
    let recurrence = counted(status, recurrence, first, now);
    let last = recurrence.latest_in(first, now)?;
    let count = recurrence.count_in(first, now, MISSED_COUNT_MAX);
    let note = if pause.note.is_empty() {
        String::new()
    } else {
        format!(": {}", pause.note)
    };
    Some(MissedRange {
        first,
        last,
        count,
        reason: format!("{}paused{note}", at_least(count)),
    })
}

/// Computes the occurrences of a range that has passed, for a backfill.
///
/// # Errors
/// Refuses a range that is not one, that is not over yet, or that holds none or too many.
pub fn plan_backfill(
    recurrence: &Recurrence,
    from: Timestamp,
    to: Timestamp,
    now: Timestamp,
) -> Result<Vec<Timestamp>, Reject> {
    let invalid = |field: &str, problem: String| Reject::Invalid {
        field: field.into(),
        problem,
    };
    if to > now {
        return Err(invalid(
            "to",
            format!("{to} is after now, {now}; the schedule runs those itself"),
        ));
    }
    if from > to {
        return Err(invalid("from", format!("{from} is after the end of the range, {to}")));
    }
    let mut times = Vec::new();
    let mut next = recurrence.next_after(from.plus_millis(-1));
    while let Next::At(at) = next {
        if at > to {
            break;
        }
        if times.len() == BACKFILL_MAX {
            let problem =
                format!("more than {BACKFILL_MAX} occurrences lie between {from} and {to}; give a shorter range");
            return Err(invalid("from", problem));
        }
        times.push(at);
        next = recurrence.next_after(at);
    }
    if times.is_empty() {
        return Err(invalid("from", format!("no occurrence lies between {from} and {to}")));
    }
    Ok(times)
}

/// Cuts the schedule off after the last occurrence that the task's count allows, as far as that lies before now.
fn counted(status: &TaskStatus, recurrence: &Recurrence, cursor: Timestamp, now: Timestamp) -> Recurrence {
    let Some(count) = status.bounds.count else {
        return recurrence.clone();
    };
    let left = count.saturating_sub(status.occurrences).min(MISSED_COUNT_MAX);
    let mut last = cursor;
    for _ in 1..left {
        match recurrence.next_after(last) {
            Next::At(at) if at <= now => last = at,
            // Fewer than are left are due.
            _ => return recurrence.clone(),
        }
    }
    recurrence.clone().ending(last)
}

fn at_least(count: u64) -> &'static str {
    if count == MISSED_COUNT_MAX {
        "at least this many; "
    } else {
        ""
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
        return Some(match verdict_of_one_shot(status, cursor, now) {
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
    let recurrence = &counted(status, recurrence, cursor, now);
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

/// Why a one-shot that is due shall not run.
fn verdict_of_one_shot(status: &TaskStatus, at: Timestamp, now: Timestamp) -> Option<String> {
    if let Some(reason) = &status.doomed {
        return Some(reason.clone());
    }
    if let Some(expires) = status.bounds.expires.filter(|expires| *expires < now) {
        return Some(format!("expired: it was to start by {expires}"));
    }
    let policy = &status.policy;
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
    let mut missed = recurrence.latest_in(cursor, missed_to).map(|last| {
        let count = recurrence.count_in(cursor, missed_to, MISSED_COUNT_MAX);
        MissedRange {
            first: cursor,
            last,
            count,
            reason: format!("{}{reason}", at_least(count)),
        }
    });
    if candidates.is_empty() && missed.is_none() {
        // The rules have changed since the cursor was computed (new zone data, a new release): it is no occurrence any more.
        missed = Some(MissedRange {
            first: cursor,
            last: cursor,
            count: 1,
            reason: "it is no occurrence by the rules as they are now".to_owned(),
        });
    }
    candidates.truncate(FIRE_RUNS_MAX);
    let last = candidates.last().copied().or(Some(newest));
    Old {
        runs: candidates,
        missed,
        last,
    }
}

/// A ready run with what it demands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub run: RunId,
    /// Workers it may go to.
    pub placement: Placement,
    /// A worker that another one is taken for, when there is one.
    pub avoid: Option<String>,
}

impl Candidate {
    /// Returns a run that any worker may take.
    pub fn anywhere(run: RunId) -> Self {
        Self {
            run,
            placement: Placement::default(),
            avoid: None,
        }
    }

    fn is_anywhere(&self) -> bool {
        self.avoid.is_none() && self.placement.is_any()
    }
}

/// A session with room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    /// Whose.
    pub session: SessionId,
    /// Runs it can take now.
    pub free: u32,
    /// Runs it holds now.
    pub busy: u32,
    /// Its worker's name.
    pub worker: Arc<str>,
    /// Its worker's labels.
    pub labels: Arc<BTreeMap<String, String>>,
}

/// Gives ready runs, in their order, to sessions with room that may take them: those with most of the preferred labels first, then one
/// that is not to be avoided, then the one with the fewest runs. A run that nobody may take now is left out.
pub fn plan_assign(ready: &[Candidate], rooms: &[Room]) -> Vec<AssignItem> {
    if ready.iter().all(Candidate::is_anywhere) {
        return spread(ready, rooms);
    }
    let mut rooms: Vec<Room> = rooms.iter().filter(|room| room.free > 0).cloned().collect();
    let mut items = Vec::with_capacity(ready.len().min(ROUND_ITEMS_MAX));
    for candidate in ready {
        if items.len() == ROUND_ITEMS_MAX {
            break;
        }
        let best = rooms
            .iter_mut()
            .filter(|room| room.free > 0 && candidate.placement.allows(&room.labels))
            .min_by_key(|room| {
                let avoided = candidate.avoid.as_deref() == Some(&*room.worker);
                (
                    candidate.placement.misses(&room.labels),
                    avoided,
                    room.busy,
                    room.session,
                )
            });
        let Some(room) = best else { continue };
        room.free -= 1;
        room.busy += 1;
        items.push(AssignItem {
            run: candidate.run,
            session: room.session,
        });
    }
    items
}

/// Spreads runs that any worker may take.
fn spread(ready: &[Candidate], rooms: &[Room]) -> Vec<AssignItem> {
    let mut heap: BinaryHeap<Reverse<(u32, SessionId, u32)>> = rooms
        .iter()
        .filter(|room| room.free > 0)
        .map(|room| Reverse((room.busy, room.session, room.free)))
        .collect();
    let mut items = Vec::with_capacity(ready.len().min(ROUND_ITEMS_MAX));
    for candidate in ready.iter().take(ROUND_ITEMS_MAX) {
        let Some(Reverse((busy, session, free))) = heap.pop() else {
            break;
        };
        items.push(AssignItem {
            run: candidate.run,
            session,
        });
        if free > 1 {
            heap.push(Reverse((busy + 1, session, free - 1)));
        }
    }
    items
}

#[cfg(test)]
mod tests;

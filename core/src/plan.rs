//! What the leader shall propose next, as pure functions of what it sees. `apply` checks every answer again.

use crate::calendar::{Calendars, Interval};
use crate::command::{AssignItem, ClosedRange, FireItem, MissedRange, Reject};
use crate::ids::{RunId, SessionId, TaskId};
use crate::limits::{BACKFILL_MAX, FIRE_RUNS_MAX, LATE_NOT_MISSED_MS, ROUND_ITEMS_MAX};
use crate::schedule::{Next, Occurrences, Recurrence, Schedule};
use crate::session::serves;
use crate::task::{Missed, NextRun, Placement, Policy, ScheduleKind, TaskStatus};
use crate::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// When a search that gave up is repeated.
const SEARCH_AGAIN_MS: i64 = 60 * 60 * 1000;
/// Missed occurrences are counted up to here; beyond it the ledger says "at least".
const MISSED_COUNT_MAX: u64 = 10_000;
/// Closed occurrences that one `Fire` skips: its cursor is due then, and the next one goes on with the same line of the ledger.
const CLOSED_COUNT_MAX: u64 = 1000;
/// Occurrences that `missed = all` catches up with at once, whatever the task says.
pub const CATCH_UP_MAX: u32 = 1000;

/// Computes the first run time of a task that is being accepted.
///
/// # Errors
/// Refuses an instant in the past that no grace covers (unless `late_ok`), one that a calendar of the task closes, and a schedule
/// without any occurrence from now on.
pub fn first_run(
    schedule: &Schedule,
    occurrences: &Occurrences<'_>,
    policy: &Policy,
    late_ok: bool,
    now: Timestamp,
) -> Result<NextRun, Reject> {
    if let Some(at) = schedule.instant() {
        return first_run_at(at, occurrences.calendars(), policy, late_ok, now);
    }
    match occurrences.first_from(now) {
        Next::At(at) => Ok(NextRun::At(at)),
        Next::Exhausted if matches!(schedule, Schedule::Manual | Schedule::After { .. }) => Ok(NextRun::Never),
        Next::Exhausted => Err(Reject::Invalid {
            field: "schedule".into(),
            problem: format!("{schedule} has no occurrence after {now}, within the task's bounds"),
        }),
        next => Ok(next_run(next, now)),
    }
}

fn first_run_at(
    at: Timestamp,
    calendars: &Calendars,
    policy: &Policy,
    late_ok: bool,
    now: Timestamp,
) -> Result<NextRun, Reject> {
    let invalid = |problem: String| Reject::Invalid {
        field: "schedule.at".into(),
        problem,
    };
    let late_ms = now.millis_since(at);
    let covered = u64::try_from(late_ms).is_ok_and(|late| late <= policy.grace_ms);
    let first = match late_ms {
        ..=0 => at,
        _ if late_ok => now,
        _ if covered && policy.missed != Missed::Skip => at,
        _ => {
            return Err(invalid(format!(
                "{at} is {late_ms} ms in the past, more than the grace of {} ms; \
                 give a later time, a longer grace, or say that late is all right (--late-ok)",
                policy.grace_ms
            )));
        }
    };
    match calendars.covering(first) {
        None => Ok(NextRun::At(first)),
        Some((name, closed)) => Err(invalid(format!(
            "{first} is closed by calendar {name:?} until {}; give a time outside it, or leave the calendar out",
            closed.to
        ))),
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
pub fn paused_range(status: &TaskStatus, due: &mut Occurrences<'_>, now: Timestamp) -> Option<MissedRange> {
    let (NextRun::At(first), ScheduleKind::Periodic, Some(pause)) = (status.next, status.kind, &status.pause) else {
        return None;
    };
    cut_to_count(status, due, first, now);
    let last = due.latest_in(first, now)?;
    let (count, all) = due.count_in(first, now, MISSED_COUNT_MAX);
    let note = if pause.note.is_empty() {
        String::new()
    } else {
        format!(": {}", pause.note)
    };
    Some(MissedRange {
        first,
        last,
        count,
        reason: format!("{}paused{note}", at_least(all)),
    })
}

/// Computes the occurrences of a range that has passed, for a backfill: those that no calendar closes.
///
/// # Errors
/// Refuses a range that is not one, that is not over yet, or that holds none or too many.
pub fn plan_backfill(
    occurrences: &Occurrences<'_>,
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
    let mut next = occurrences.next_open(from.plus_millis(-1));
    loop {
        match next {
            Next::At(at) if at <= to => {
                if times.len() == BACKFILL_MAX {
                    let problem = format!(
                        "more than {BACKFILL_MAX} occurrences lie between {from} and {to}; give a shorter range"
                    );
                    return Err(invalid("from", problem));
                }
                times.push(at);
                next = occurrences.next_open(at);
            }
            Next::GaveUp { searched_until } if searched_until < to => {
                let problem = format!("the search met its bound at {searched_until}; give a shorter range");
                return Err(invalid("from", problem));
            }
            _ => break,
        }
    }
    if times.is_empty() {
        let open = if occurrences.calendars().is_empty() {
            ""
        } else {
            " outside the task's calendars"
        };
        return Err(invalid(
            "from",
            format!("no occurrence lies between {from} and {to}{open}"),
        ));
    }
    Ok(times)
}

/// Cuts the schedule off after the last occurrence that the task's count allows, as far as that lies before now.
fn cut_to_count(status: &TaskStatus, due: &mut Occurrences<'_>, cursor: Timestamp, now: Timestamp) {
    let Some(count) = status.bounds.count else { return };
    let left = count.saturating_sub(status.occurrences).min(MISSED_COUNT_MAX);
    let mut last = cursor;
    for _ in 1..left {
        match due.next_known(last, now) {
            Next::At(at) if at <= now => last = at,
            // Fewer than are left are due.
            _ => return,
        }
    }
    due.end(last);
}

fn at_least(all: bool) -> &'static str {
    if all { "" } else { "at least this many; " }
}

fn empty_item(id: TaskId, status: &TaskStatus, calendars: &Calendars, cursor: Timestamp, next: NextRun) -> FireItem {
    FireItem {
        task: id,
        generation: status.generation,
        cursor,
        runs: Vec::new(),
        missed: None,
        next,
        closed: None,
        calendars: calendars.generation(),
    }
}

/// Decides what becomes of a task whose cursor is due: which occurrences run, which are missed, where the cursor goes.
///
/// Occurrences younger than [`LATE_NOT_MISSED_MS`] run; older ones are subject to the task's missed-run policy, which does not see
/// those that a calendar closes. Returns nothing when nothing is due. When more is due than one `Fire` carries, the new cursor is
/// itself due: ask again. One `Fire` does not go over the edge of a time that a calendar closes, so that each of its ranges is
/// without gaps.
pub fn plan_fire(id: TaskId, status: &TaskStatus, due: &mut Occurrences<'_>, now: Timestamp) -> Option<FireItem> {
    let cursor = due_cursor(status, now)?;
    if status.kind != ScheduleKind::Periodic {
        return plan_fire_alone(id, status, due.calendars(), NextRun::Never, now);
    }
    cut_to_count(status, due, cursor, now);
    let item = match due.calendars().covering(cursor) {
        Some((name, stretch)) => closed_range(id, status, due, (name, stretch), now),
        None => open_range(id, status, due, cursor, now),
    };
    if due.met_bound() {
        let gave_up = Next::GaveUp { searched_until: cursor };
        return plan_fire_alone(id, status, due.calendars(), next_run(gave_up, now), now);
    }
    item
}

/// Returns the task's cursor, if it is due.
fn due_cursor(status: &TaskStatus, now: Timestamp) -> Option<Timestamp> {
    match status.next {
        NextRun::At(cursor) if cursor <= now && status.pause.is_none() && !status.state.is_ended() => Some(cursor),
        _ => None,
    }
}

/// Decides about the occurrence that is due and no other: of a task that has one only, or whose others cannot be found now. What came
/// due after it is decided about when `next` is.
pub fn plan_fire_alone(
    id: TaskId,
    status: &TaskStatus,
    calendars: &Calendars,
    next: NextRun,
    now: Timestamp,
) -> Option<FireItem> {
    let cursor = due_cursor(status, now)?;
    let mut item = empty_item(id, status, calendars, cursor, next);
    let closed = calendars.covering(cursor).map(|(name, _)| name.to_owned());
    let missed = match closed {
        Some(calendar) if status.kind == ScheduleKind::Periodic => {
            item.closed = Some(ClosedRange {
                first: cursor,
                last: cursor,
                count: 1,
                calendar,
            });
            return Some(item);
        }
        Some(calendar) => Some(format!("calendar {calendar:?} closes that time")),
        None => verdict_of_one(status, cursor, now),
    };
    match missed {
        None => item.runs.push(cursor),
        Some(reason) => {
            item.missed = Some(MissedRange {
                first: cursor,
                last: cursor,
                count: 1,
                reason,
            });
        }
    }
    Some(item)
}

/// Why an occurrence that is due shall not run, as far as it can be said without knowledge of others.
fn verdict_of_one(status: &TaskStatus, at: Timestamp, now: Timestamp) -> Option<String> {
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

/// Skips the occurrences that are due in a stretch that a calendar closes.
fn closed_range(
    id: TaskId,
    status: &TaskStatus,
    due: &Occurrences<'_>,
    (calendar, stretch): (&str, Interval),
    now: Timestamp,
) -> Option<FireItem> {
    let cursor = due_cursor(status, now)?;
    let (mut last, mut count) = (cursor, 1);
    let next = loop {
        match due.next_after(last) {
            Next::At(at) if at <= now && at < stretch.to && count < CLOSED_COUNT_MAX => (last, count) = (at, count + 1),
            next => break next,
        }
    };
    let mut item = empty_item(id, status, due.calendars(), cursor, next_run(next, now));
    item.closed = Some(ClosedRange {
        first: cursor,
        last,
        count,
        calendar: calendar.to_owned(),
    });
    Some(item)
}

/// Decides about the occurrences from an open cursor to now, or to where a calendar next closes.
fn open_range(
    id: TaskId,
    status: &TaskStatus,
    due: &Occurrences<'_>,
    cursor: Timestamp,
    now: Timestamp,
) -> Option<FireItem> {
    let after_now = now.plus_millis(1);
    let end = due
        .calendars()
        .next_beginning(cursor)
        .map_or(after_now, |at| at.min(after_now));
    let fresh_from = now.plus_millis(1 - LATE_NOT_MISSED_MS);
    let old = old_occurrences(&status.policy, due, (cursor, end), fresh_from, now);
    let mut runs = old.runs;
    let mut last = old.last;
    let mut next = match last {
        Some(last) => due.next_after(last),
        None => Next::At(cursor),
    };
    while let Next::At(at) = next {
        if at >= end || runs.len() >= FIRE_RUNS_MAX {
            break;
        }
        runs.push(at);
        last = Some(at);
        next = due.next_after(at);
    }
    // `cursor` is due, so something was decided about it.
    last?;
    let mut item = empty_item(id, status, due.calendars(), cursor, next_run(next, now));
    item.runs = runs;
    // Counted last: what it costs is not missing for the search.
    item.missed = old.missed.map(|missed| {
        let (count, all) = due.count_in(cursor, missed.to, MISSED_COUNT_MAX);
        MissedRange {
            first: cursor,
            last: missed.last,
            count: count.max(1),
            reason: format!("{}{}", at_least(all), missed.reason),
        }
    });
    Some(item)
}

/// What becomes of the occurrences that are too old to be simply late.
#[derive(Default)]
struct Old {
    runs: Vec<Timestamp>,
    missed: Option<Gone>,
    /// The last occurrence decided about.
    last: Option<Timestamp>,
}

/// Occurrences from the cursor on that do not run.
struct Gone {
    last: Timestamp,
    /// Before this.
    to: Timestamp,
    reason: &'static str,
}

fn old_occurrences(
    policy: &Policy,
    due: &Occurrences<'_>,
    (cursor, end): (Timestamp, Timestamp),
    fresh_from: Timestamp,
    now: Timestamp,
) -> Old {
    if cursor >= fresh_from {
        return Old::default();
    }
    let (mut runs, reason) = caught_up(policy, due, cursor, fresh_from, now);
    let missed_to = runs.first().copied().unwrap_or(fresh_from).min(end);
    // The choice is made among all that are due; what is beyond `end` is another item's.
    runs.retain(|at| *at < end);
    let last = due.latest_in(cursor, missed_to);
    let mut missed = last.map(|last| Gone {
        last,
        to: missed_to,
        reason,
    });
    if runs.is_empty() && missed.is_none() {
        // The rules have changed since the cursor was computed (new zone data, a new release): it is no occurrence any more.
        missed = Some(Gone {
            last: cursor,
            to: cursor.plus_millis(1),
            reason: "it is no occurrence by the rules as they are now",
        });
    }
    runs.truncate(FIRE_RUNS_MAX);
    let last = runs.last().copied().or(missed.as_ref().map(|missed| missed.last));
    Old { runs, missed, last }
}

/// Returns the occurrences before `fresh_from` that run all the same, and why the others do not.
fn caught_up(
    policy: &Policy,
    due: &Occurrences<'_>,
    cursor: Timestamp,
    fresh_from: Timestamp,
    now: Timestamp,
) -> (Vec<Timestamp>, &'static str) {
    let grace = i64::try_from(policy.grace_ms).unwrap_or(i64::MAX);
    let in_grace_from = now.plus_millis(-grace).max(cursor);
    let (want, reason) = match policy.missed {
        Missed::Skip => (0, "the policy for missed runs is skip"),
        Missed::Latest => {
            let newest = due.latest_open_in(cursor, fresh_from).unwrap_or(cursor);
            let fresh = matches!(due.next_open(newest), Next::At(at) if at <= now);
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
    let mut runs: Vec<Timestamp> = Vec::new();
    let mut to = fresh_from;
    while runs.len() < want as usize {
        match due.latest_open_in(in_grace_from, to) {
            Some(at) => {
                runs.push(at);
                to = at;
            }
            None => break,
        }
    }
    runs.reverse();
    if want > 0 && runs.len() < want as usize {
        return (runs, "later than the grace");
    }
    (runs, reason)
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
    /// The queue whose workers alone may take it.
    pub queue: Option<String>,
}

impl Candidate {
    /// Returns a run that any worker may take.
    pub fn anywhere(run: RunId) -> Self {
        Self {
            run,
            placement: Placement::default(),
            avoid: None,
            queue: None,
        }
    }

    fn is_anywhere(&self) -> bool {
        self.avoid.is_none() && self.placement.is_any() && self.queue.is_none()
    }

    fn may_go_to(&self, room: &Room) -> bool {
        room.free > 0 && serves(&room.queues, self.queue.as_deref()) && self.placement.allows(&room.labels)
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
    /// The queues its worker serves.
    pub queues: Arc<BTreeSet<String>>,
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
            .filter(|room| candidate.may_go_to(room))
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
        .filter(|room| room.free > 0 && serves(&room.queues, None))
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
mod closed_tests;
#[cfg(test)]
mod tests;

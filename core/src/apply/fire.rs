//! `Fire`: due occurrences become runs, or lines in the ledger, and the cursor moves on, in one step.

use super::ctx::{Ctx, Stop};
use super::runs::{NewRun, Place};
use super::spool::shut_down;
use crate::command::{FireItem, Reply};
use crate::ids::RunId;
use crate::limits;
use crate::run::Occurrence;
use crate::tables::{Meta, View};
use crate::task::{NextRun, Overlap, ScheduleKind, TaskState, TaskStatus};
use crate::time::Timestamp;

pub(super) fn fire<V: View>(ctx: &mut Ctx<'_, V>, leader_since: Timestamp, items: &[FireItem]) -> Result<Reply, Stop> {
    if ctx.meta.shutdown.is_some() {
        return Err(shut_down());
    }
    let (mut runs, mut refused) = (Vec::new(), 0);
    for item in items.iter().take(limits::ROUND_ITEMS_MAX) {
        match ctx.status(item.task) {
            Ok(old) if acceptable(item, &old, &ctx.meta) => fire_task(ctx, leader_since, item, &old, &mut runs)?,
            // The task has changed since the leader looked, or this is a repeat: the ticker looks again.
            Ok(_) | Err(Stop::Reject(_)) => refused += 1,
            Err(fault) => return Err(fault),
        }
    }
    Ok(Reply::Fired { runs, refused })
}

/// Whether the item still fits the task: same generation, cursor and calendars, nothing early, time moves on.
fn acceptable(item: &FireItem, status: &TaskStatus, meta: &Meta) -> bool {
    let now = meta.now;
    let calendars_fit = status.bounds.calendars.is_empty() || item.calendars == meta.calendar_generation;
    let fits = calendars_fit
        && status.generation == item.generation
        && status.next == NextRun::At(item.cursor)
        && status.pause.is_none()
        && matches!(status.state, TaskState::Queued | TaskState::Running)
        && item.cursor <= now;
    let last = item
        .runs
        .last()
        .copied()
        .into_iter()
        .chain(item.missed.as_ref().map(|m| m.last))
        .chain(item.closed.as_ref().map(|c| c.last))
        .max();
    let ordered = item.runs.is_sorted_by(|a, b| a < b)
        && item.runs.iter().all(|at| *at >= item.cursor && *at <= now)
        && item
            .missed
            .as_ref()
            .is_none_or(|m| m.first >= item.cursor && m.last <= now && m.first <= m.last)
        && item.closed.as_ref().is_none_or(|c| {
            let alone = item.runs.is_empty() && item.missed.is_none() && !status.bounds.calendars.is_empty();
            alone && c.first >= item.cursor && c.last <= now && c.first <= c.last
        });
    let moves_on = match (item.next, last) {
        (_, None) => false,
        (NextRun::At(next), Some(last)) => next > last,
        (NextRun::Never | NextRun::GaveUp { .. }, Some(_)) => true,
    };
    fits && ordered && moves_on && item.runs.len() <= limits::FIRE_RUNS_MAX
}

fn fire_task<V: View>(
    ctx: &mut Ctx<'_, V>,
    leader_since: Timestamp,
    item: &FireItem,
    old: &TaskStatus,
    created: &mut Vec<RunId>,
) -> Result<(), Stop> {
    let id = item.task;
    let mut status = old.clone();
    status.next = item.next;
    if let Some(missed) = &item.missed {
        ctx.miss(id, &mut status, missed);
    }
    if let Some(closed) = &item.closed {
        ctx.skip_closed(id, &mut status, closed)?;
    }
    status.occurrences += item.runs.len() as u64;
    if status.bounds.count.is_some_and(|count| status.occurrences >= count) {
        status.next = NextRun::Never;
    }
    let busy_before = !status.live.is_empty();
    for at in &item.runs {
        status.last_scheduled = Some(*at);
        let outage = *at < leader_since && ctx.now().millis_since(*at) < limits::LATE_NOT_MISSED_MS;
        let late = ctx.now().millis_since(*at) >= limits::LATE_NOT_MISSED_MS;
        let occurrence = if late && status.kind == ScheduleKind::Periodic {
            Occurrence::CatchUp
        } else {
            Occurrence::Scheduled
        };
        let place = match place(&status, &occurrence, busy_before && !outage) {
            Ok(place) => place,
            Err(reason) => {
                ctx.skip(id, &mut status, *at, reason);
                continue;
            }
        };
        if status.policy.overlap == Overlap::Replace && !status.live.is_empty() {
            ctx.stop_all(id, &mut status, "replaced by a later run")?;
        }
        let place = if status.live.is_empty() { Place::Ready } else { place };
        let new = NewRun {
            occurrence,
            scheduled_at: *at,
            params: Vec::new(),
        };
        created.push(ctx.create_run(id, &mut status, new, place)?);
    }
    ctx.settle(&mut status, None);
    ctx.set_status(id, Some(old), Some(&status))?;
    Ok(())
}

/// Where an occurrence goes under the overlap policy, or why it is skipped.
///
/// Only a run that was alive before this step drops occurrences (`may_drop`): catch-up runs of one step, and those that fell into
/// a time without a leader, wait for each other instead. Catch-up runs do so whatever the policy says.
fn place(status: &TaskStatus, occurrence: &Occurrence, may_drop: bool) -> Result<Place, String> {
    let alive = status.live.len() + status.held.len();
    if alive >= limits::LIVE_RUNS_MAX {
        return Err(format!("{alive} runs of the task are alive, which is the bound"));
    }
    let Some(oldest) = status.live.first() else {
        return Ok(Place::Ready);
    };
    match status.policy.overlap {
        Overlap::Allow if occurrence.takes_turns() && !status.is_turn_free() => Ok(Place::Held),
        Overlap::Allow => Ok(Place::Ready),
        Overlap::Skip if may_drop => Err(format!("overlap: run {oldest} is still alive, and the policy is skip")),
        Overlap::QueueOne if may_drop && !status.held.is_empty() => {
            Err("overlap: one run waits already, and the policy is queue-one".to_owned())
        }
        Overlap::Skip | Overlap::QueueOne | Overlap::QueueAll | Overlap::Replace => Ok(Place::Held),
    }
}

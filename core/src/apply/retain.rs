//! `Retain`: deletes what retention no longer keeps, in bounded steps.

use super::ctx::{Ctx, Stop};
use crate::command::{Fault, Reply};
use crate::config::Config;
use crate::ids::{RunId, TaskId};
use crate::limits;
use crate::run::RunState;
use crate::tables::{Key, Table, TaskOutcome, View, decode_u64};
use crate::task::TaskState;
use crate::time::Timestamp;

pub(super) fn retain<V: View>(
    ctx: &mut Ctx<'_, V>,
    runs: &[RunId],
    tasks: &[TaskId],
    requests_until: Timestamp,
) -> Result<Reply, Stop> {
    let mut count = 0;
    for id in runs.iter().take(limits::ROUND_ITEMS_MAX) {
        count += u64::from(retain_run(ctx, *id)?);
    }
    let ended_max = Config::read(&*ctx.staged)?.ended_tasks_max();
    for id in tasks.iter().take(limits::ROUND_ITEMS_MAX) {
        count += u64::from(retain_task(ctx, *id, ended_max)?);
    }
    let (dropped, more) = retain_requests(ctx, requests_until.min(ctx.now()))?;
    Ok(Reply::Count {
        count: count + dropped,
        more,
    })
}

fn retain_run<V: View>(ctx: &mut Ctx<'_, V>, id: RunId) -> Result<bool, Stop> {
    let Some(run) = ctx.find_run(id)? else { return Ok(false) };
    let old = ctx.status(id.task)?;
    let age_max = old.policy.retention.age_ms_max(run.state == RunState::Finished);
    let expired = run.state.is_terminal() && run.ended_at.is_some_and(|at| ctx.now().millis_since(at) >= age_max);
    if !expired {
        return Ok(false);
    }
    let mut status = old.clone();
    ctx.forget_run(&mut status, &run)?;
    ctx.set_status(id.task, Some(&old), Some(&status))?;
    Ok(true)
}

/// Deletes an ended task with everything that belongs to it, when it is old enough or more have ended than are kept. Its kept runs are
/// few: their number is bounded by its policy.
fn retain_task<V: View>(ctx: &mut Ctx<'_, V>, id: TaskId, ended_max: u64) -> Result<bool, Stop> {
    let Some(old) = ctx.find_status(id)? else {
        return Ok(false);
    };
    let age_max = old.policy.retention.age_ms_max(old.state != TaskState::Failed);
    let too_many = ctx.meta.ended_tasks > ended_max;
    let expired = old.state.is_ended()
        && !old.is_busy()
        && (too_many || old.ended_at.is_some_and(|at| ctx.now().millis_since(at) >= age_max));
    if !expired {
        return Ok(false);
    }
    let mut status = old.clone();
    for number in old.lost.iter().take(limits::ROUND_ITEMS_MAX) {
        // Nobody has told in all that time, and the task goes.
        if let Some(run) = ctx.find_run(RunId {
            task: id,
            number: *number,
        })? {
            let reason = "lost, and nobody told how it ended".to_owned();
            ctx.end_run(&mut status, &run, run.clone(), RunState::Failed, reason)?;
        }
    }
    for outcome in [TaskOutcome::Finished, TaskOutcome::Failed] {
        let (from, to) = Key::ended_of_task(id, outcome);
        for (key, _) in ctx.staged.scan(Table::Ended, &from, &to, limits::ROUND_ITEMS_MAX)? {
            let number = key
                .get(10..)
                .and_then(decode_u64)
                .ok_or_else(|| Fault::Inconsistent(format!("index of ended runs of task {id}")))?;
            if let Some(run) = ctx.find_run(RunId { task: id, number })? {
                ctx.forget_run(&mut status, &run)?;
            }
        }
    }
    if status.finished_kept > 0 || status.failed_kept > 0 || !status.lost.is_empty() {
        // More runs than one step deletes: the task goes in a later one.
        ctx.set_status(id, Some(&old), Some(&status))?;
        return Ok(true);
    }
    let (from, to) = Key::ledger_of(id, 0);
    ctx.staged.delete_range(Table::Ledger, from, to);
    ctx.set_status(id, Some(&old), Some(&status))?;
    ctx.delete_task(id)?;
    Ok(true)
}

/// Drops answers whose time has passed: counted, then deleted as one range.
fn retain_requests<V: View>(ctx: &mut Ctx<'_, V>, until: Timestamp) -> Result<(u64, bool), Fault> {
    const STEP: usize = 8 * limits::ROUND_ITEMS_MAX;
    let (from, to) = Key::client_requests_until(until);
    let expired = ctx.staged.scan(Table::Requests, &from, &to, STEP)?;
    let mut more = expired.len() == STEP;
    let mut dropped = expired.len() as u64;
    if let Some((last, _)) = expired.last() {
        let mut to = last.clone();
        to.push(0);
        ctx.staged.delete_range(Table::Requests, from, to);
    }
    ctx.meta.requests = ctx.meta.requests.saturating_sub(dropped);
    let (from, to) = Key::caller_expiries_until(until);
    let expired = ctx.staged.scan(Table::Requests, &from, &to, limits::ROUND_ITEMS_MAX)?;
    more |= expired.len() == limits::ROUND_ITEMS_MAX;
    for (expiry, _) in expired {
        if let Some(key) = Key::caller_request_of_expiry(&expiry) {
            ctx.staged.delete(Table::Requests, key);
        }
        ctx.staged.delete(Table::Requests, expiry);
        ctx.meta.caller_keys = ctx.meta.caller_keys.saturating_sub(1);
        dropped += 1;
    }
    Ok((dropped, more))
}

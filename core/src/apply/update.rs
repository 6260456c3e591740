//! `Update`: gives a task another definition, computed by its owner from the generation that he names.
//!
//! A run that is under way goes on as it was started. Everything after that is new: the next try of a run, runs that wait (they are put
//! where the new definition wants them), and occurrences to come.

use super::ctx::{Ctx, Stop};
use super::submit::{queue, reply};
use crate::codec::Kind;
use crate::command::{Fault, Reject, Reply, SpoolAction};
use crate::ids::{RunId, TaskId};
use crate::limits;
use crate::run::RunState;
use crate::schedule::Schedule;
use crate::tables::{Key, View};
use crate::task::{Ending, NextRun, ScheduleKind, Task, TaskRef, TaskSpec, TaskState, TaskStatus};
use std::collections::BTreeSet;

pub(super) fn update<V: View>(
    ctx: &mut Ctx<'_, V>,
    principal: &str,
    task: &TaskRef,
    generation: u64,
    spec: &TaskSpec,
    next: Option<NextRun>,
) -> Result<Reply, Stop> {
    let id = ctx.resolve(task)?;
    let old = ctx.status(id)?;
    let stored = ctx.task(id)?;
    if old.generation != generation && !old.state.is_ended() {
        return Err(Reject::Conflict {
            task: id,
            expected: generation,
            actual: old.generation,
        }
        .into());
    }
    check(ctx, id, &old, &stored, spec, next.is_some())?;
    parents(ctx, id, &old, spec, next.is_some())?;
    if !ctx.spooling() {
        return update_now(ctx, id, spec, next);
    }
    if spec.name != stored.spec.name {
        // A name is reserved when it is accepted, and this one would have to wait.
        return Err(Reject::WrongState {
            what: "the scheduler".into(),
            state: "shut down, or has operations in its spool".into(),
            expected: "a task gets another name only while it runs; start it first".into(),
        }
        .into());
    }
    let mut status = old.clone();
    // Another update of the same generation must not be accepted beside this one.
    status.generation += 1;
    ctx.set_status(id, Some(&old), Some(&status))?;
    ctx.spool(
        principal,
        SpoolAction::Update {
            task: id,
            spec: Box::new(spec.clone()),
            reschedule: next.is_some(),
        },
    );
    Ok(reply(id, stored.spec.name, &status))
}

/// Checks first and changes then: an operation of the spool that is refused has nothing taken back.
pub(super) fn update_now<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: TaskId,
    spec: &TaskSpec,
    next: Option<NextRun>,
) -> Result<Reply, Stop> {
    let old = ctx.status(id)?;
    let stored = ctx.task(id)?;
    check(ctx, id, &old, &stored, spec, next.is_some())?;
    let waits_for = parents(ctx, id, &old, spec, next.is_some())?;
    let mut status = old.clone();
    rename(ctx, id, &stored.spec, spec);
    let task = Task {
        spec: spec.clone(),
        ..stored
    };
    ctx.put(&Key::Task(id), Kind::Task, &task);
    status.generation += 1;
    status.policy = spec.settled_policy();
    status.bounds = spec.bounds.clone();
    status.queue = spec.action.queue().map(str::to_owned);
    let places = |status: &TaskStatus| {
        let policy = status.policy.clone();
        (policy.priority, policy.group, policy.placement, status.queue.clone())
    };
    if places(&old) != places(&status) {
        place_anew(ctx, id, &status)?;
    }
    if let Some(next) = next {
        status.kind = ScheduleKind::of(&spec.schedule);
        status.doomed = None;
        ctx.stop_waiting(id, &mut status)?;
        (status.waits_for, status.waits_on) = waits_for;
        queue(ctx, id, &mut status, &spec.schedule, next)?;
        ctx.settle(&mut status, None);
    }
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(reply(id, task.spec.name, &status))
}

fn check<V: View>(
    ctx: &Ctx<'_, V>,
    id: TaskId,
    status: &TaskStatus,
    stored: &Task,
    spec: &TaskSpec,
    reschedule: bool,
) -> Result<(), Stop> {
    let wrong = |expected: &str| Reject::WrongState {
        what: format!("task {id}"),
        state: status.state.as_str().into(),
        expected: expected.into(),
    };
    if status.state.is_ended() {
        return Err(wrong("only a task that can still run can be changed; enqueue a new one").into());
    }
    if reschedule && status.kind == ScheduleKind::OneShot && status.state == TaskState::Running {
        return Err(wrong("it has started, so that its schedule cannot be changed; everything else can").into());
    }
    if spec.namespace != stored.spec.namespace {
        return Err(Reject::Invalid {
            field: "namespace".into(),
            problem: format!(
                "task {id} is in namespace {:?} and stays there; enqueue a new one in {:?}",
                stored.spec.namespace, spec.namespace
            ),
        }
        .into());
    }
    if let Some(name) = spec.name.as_ref().filter(|_| spec.name != stored.spec.name)
        && let Some(by) = ctx.get(&Key::Name(&spec.namespace, name), Kind::NameEntry)?
    {
        return Err(Reject::NameTaken { name: name.clone(), by }.into());
    }
    ctx.require_calendars(&spec.namespace, &spec.bounds)
}

/// Returns the tasks that it is to wait for, if it gets another schedule, and how they must end.
fn parents<V: View>(
    ctx: &Ctx<'_, V>,
    id: TaskId,
    status: &TaskStatus,
    spec: &TaskSpec,
    reschedule: bool,
) -> Result<(Vec<TaskId>, Ending), Stop> {
    match &spec.schedule {
        Schedule::After { parents, on } if reschedule => {
            let mut wanted = status.clone();
            wanted.waits_for.clear();
            ctx.find_parents(&mut wanted, parents, *on)?;
            refuse_cycle(ctx, id, &wanted)?;
            Ok((wanted.waits_for, wanted.waits_on))
        }
        _ => Ok((Vec::new(), Ending::default())),
    }
}

/// Brings the tables of names and labels in line with the new definition.
fn rename<V: View>(ctx: &mut Ctx<'_, V>, id: TaskId, old: &TaskSpec, new: &TaskSpec) {
    if old.name != new.name {
        if let Some(name) = &old.name {
            ctx.delete(&Key::Name(&old.namespace, name));
        }
        if let Some(name) = &new.name {
            ctx.put(&Key::Name(&new.namespace, name), Kind::NameEntry, &id);
        }
    }
    if old.labels != new.labels {
        for (label, value) in &old.labels {
            ctx.delete(&Key::Label(&old.namespace, label, value, id));
        }
        for (label, value) in &new.labels {
            ctx.put_key(&Key::Label(&new.namespace, label, value, id));
        }
    }
}

/// Puts the runs that wait where the new policy wants them: in another order or group, for other workers. Their number is bounded by
/// [`limits::LIVE_RUNS_MAX`].
fn place_anew<V: View>(ctx: &mut Ctx<'_, V>, task: TaskId, status: &TaskStatus) -> Result<(), Fault> {
    for number in status.live.iter().chain(&status.held) {
        let id = RunId { task, number: *number };
        let Some(old) = ctx.find_run(id)? else {
            return Err(Fault::Inconsistent(format!("live run {id} has no record")));
        };
        let waits = matches!(
            old.state,
            RunState::Ready | RunState::Blocked | RunState::Held | RunState::Delayed { .. }
        );
        if !waits {
            continue;
        }
        // Out of its old group first, so that its room is free for others, and perhaps for itself.
        ctx.set_run(id, Some(&old), None)?;
        let mut new = old;
        new.priority = status.policy.priority;
        new.group = status.policy.group.clone();
        new.placement = status.policy.placement.clone();
        new.queue = status.queue.clone();
        if matches!(new.state, RunState::Ready | RunState::Blocked) {
            new.state = ctx.ready_or_blocked(&new)?;
        }
        ctx.set_run(id, None, Some(&new))?;
    }
    Ok(())
}

/// Tasks that wait for each other would wait for ever. A new task cannot be waited for by those that it waits for; a changed one can.
fn refuse_cycle<V: View>(ctx: &Ctx<'_, V>, id: TaskId, wanted: &TaskStatus) -> Result<(), Stop> {
    let refuse = |problem: String| {
        Stop::from(Reject::Invalid {
            field: "schedule.after".into(),
            problem,
        })
    };
    let mut seen: BTreeSet<TaskId> = BTreeSet::new();
    let mut open: Vec<TaskId> = wanted.waits_for.clone();
    while let Some(parent) = open.pop() {
        if parent == id {
            return Err(refuse(format!(
                "task {id} would wait for itself, directly or through others"
            )));
        }
        if !seen.insert(parent) {
            continue;
        }
        if seen.len() > limits::CYCLE_SEARCH_MAX {
            let most = limits::CYCLE_SEARCH_MAX;
            return Err(refuse(format!(
                "more than {most} tasks would have to end first, too many to look for a cycle; enqueue a new task instead"
            )));
        }
        if let Some(status) = ctx.find_status(parent)? {
            open.extend(status.waits_for);
        }
    }
    Ok(())
}

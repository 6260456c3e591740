//! `Submit`: accepts a task, into the waiting queue or behind others into the spool.

use super::ctx::{Ctx, Stop};
use super::runs::{NewRun, Place};
use crate::codec::Kind;
use crate::command::{Effect, Fault, Reject, Reply, SpoolAction};
use crate::ids::TaskId;
use crate::run::Occurrence;
use crate::schedule::Schedule;
use crate::tables::{Key, View};
use crate::task::{Ending, NextRun, ScheduleKind, Task, TaskSpec, TaskState, TaskStatus};

pub(super) fn submit<V: View>(
    ctx: &mut Ctx<'_, V>,
    principal: &str,
    spec: &TaskSpec,
    first: NextRun,
) -> Result<Reply, Stop> {
    let id = TaskId(ctx.meta.last_task + 1);
    if let Some(name) = &spec.name {
        let key = Key::Name(&spec.namespace, name);
        if let Some(by) = ctx.get(&key, Kind::NameEntry)? {
            return Err(Reject::NameTaken { name: name.clone(), by }.into());
        }
        ctx.put(&key, Kind::NameEntry, &id);
    }
    ctx.meta.last_task = id.0;
    let task = Task {
        spec: spec.clone(),
        created_at: ctx.now(),
    };
    ctx.put(&Key::Task(id), Kind::Task, &task);
    for (label, value) in &spec.labels {
        ctx.put_key(&Key::Label(&spec.namespace, label, value, id));
    }
    let mut status = new_status(spec, first);
    ctx.require_calendars(&spec.namespace, &spec.bounds)?;
    if let Schedule::After { parents, on } = &spec.schedule {
        ctx.find_parents(&mut status, parents, *on)?;
    }
    if ctx.spooling() {
        ctx.set_status(id, None, Some(&status))?;
        ctx.spool(principal, SpoolAction::Enqueue(id));
    } else {
        queue(ctx, id, &mut status, &spec.schedule, first)?;
        ctx.set_status(id, None, Some(&status))?;
    }
    Ok(reply(id, spec.name.clone(), &status))
}

fn new_status(spec: &TaskSpec, next: NextRun) -> TaskStatus {
    TaskStatus {
        state: TaskState::Spooled,
        generation: 1,
        kind: ScheduleKind::of(&spec.schedule),
        policy: spec.settled_policy(),
        bounds: spec.bounds.clone(),
        namespace: spec.namespace.clone(),
        occurrences: 0,
        waits_for: Vec::new(),
        waits_on: Ending::default(),
        doomed: None,
        dependents: 0,
        next,
        pause: None,
        last_scheduled: None,
        runs_created: 0,
        live: Vec::new(),
        held: Vec::new(),
        lost: Vec::new(),
        finished: 0,
        failed: 0,
        failing: false,
        finished_kept: 0,
        failed_kept: 0,
        ledger_lines: 0,
        ended_at: None,
        turn: None,
        caught_up_at: None,
        queue: spec.action.queue().map(str::to_owned),
    }
}

/// Moves a task from the spool into the waiting queue, or at once to the ready list when it is due now. The caller writes `status`.
pub(super) fn queue<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: TaskId,
    status: &mut TaskStatus,
    schedule: &Schedule,
    next: NextRun,
) -> Result<(), Fault> {
    status.state = TaskState::Queued;
    status.next = next;
    if matches!(schedule, Schedule::After { .. }) {
        return ctx.wait_for_parents(id, status);
    }
    if status.bounds.count.is_some_and(|count| status.occurrences >= count) {
        // Those it has had count, whatever start it is given now.
        status.next = NextRun::Never;
    }
    // A pause set while it was in the spool holds it back; `resume` lets it go.
    if *schedule == Schedule::Now && status.pause.is_none() {
        let now = ctx.now();
        status.next = NextRun::Never;
        status.last_scheduled = Some(now);
        status.occurrences += 1;
        let new = NewRun {
            occurrence: Occurrence::Scheduled,
            scheduled_at: now,
            params: Vec::new(),
        };
        ctx.create_run(id, status, new, Place::Ready)?;
        status.state = TaskState::Running;
    }
    Ok(())
}

/// The answer that shows a task.
pub(super) fn reply(id: TaskId, name: Option<String>, status: &TaskStatus) -> Reply {
    Reply::Task {
        id,
        name,
        state: status.state,
        next: status.next,
    }
}

impl<V: View> Ctx<'_, V> {
    /// Appends an operation to the spool.
    pub(super) fn spool(&mut self, principal: &str, action: SpoolAction) {
        let op = crate::command::SpoolOp {
            accepted_at: self.now(),
            principal: principal.to_owned(),
            action,
        };
        self.put(&Key::Spool(self.meta.spool_tail), Kind::SpoolOp, &op);
        self.meta.spool_tail += 1;
        if self.meta.shutdown.is_none() {
            self.effect(Effect::WakeDrain);
        }
    }
}

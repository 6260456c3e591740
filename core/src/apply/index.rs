//! The one place that moves tasks and runs between indexes: the record says which index it belongs in.

use super::ctx::Ctx;
use crate::calendar::used_by;
use crate::codec::Kind;
use crate::command::{Effect, Fault};
use crate::ids::{RunId, TaskId};
use crate::run::{Run, RunState};
use crate::tables::{Key, TaskOutcome, View, Waiting};
use crate::task::{NextRun, TaskState, TaskStatus};

/// Returns the index entry of a task: the waiting queue by due time, or the ended tasks by end time.
pub(crate) fn index_of_task(id: TaskId, status: &TaskStatus) -> Option<Key<'static>> {
    match status.state {
        TaskState::Spooled => None,
        state if state.is_ended() => Some(Key::EndedTask(status.ended_at?, id)),
        _ => {
            let due = match (&status.pause, status.next) {
                (Some(pause), _) => pause.until?,
                (None, NextRun::At(at)) => at,
                (None, NextRun::GaveUp { retry_at, .. }) => retry_at,
                (None, NextRun::Never) => return None,
            };
            Some(Key::Waiting(due, Waiting::Task(id)))
        }
    }
}

/// Returns the index entries of a run: ready list, waiting queue, running list, lost, or the finished or failed index.
pub(crate) fn index_of_run(run: &Run) -> [Option<Key<'_>>; 2] {
    match run.state {
        RunState::Ready => {
            let key = Key::Ready(run.class(), run.priority, run.scheduled_at, run.id);
            [Some(key), None]
        }
        RunState::Blocked => {
            let group = run.group.as_ref().map_or("", |group| group.name.as_str());
            let key = Key::Blocked(&run.namespace, group, run.priority, run.scheduled_at, run.id);
            [Some(key), None]
        }
        RunState::Delayed { until } => [Some(Key::Waiting(until, Waiting::Run(run.id))), None],
        RunState::Held => [Some(Key::Held(run.id)), None],
        RunState::Assigned { session, .. } | RunState::Running { session, .. } => {
            [Some(Key::Running(session, run.id)), None]
        }
        RunState::Lost { hold_until, .. } => [
            Some(Key::Lost(run.id)),
            hold_until.map(|until| Key::Waiting(until, Waiting::Run(run.id))),
        ],
        RunState::Finished | RunState::Failed | RunState::Terminated => {
            let outcome = outcome_of(run.state);
            [
                run.ended_at.map(|at| Key::Ended(outcome, at, run.id)),
                Some(Key::EndedOfTask(run.id.task, outcome, run.id.number)),
            ]
        }
    }
}

/// Returns the index an ended run belongs in.
pub(crate) fn outcome_of(state: RunState) -> TaskOutcome {
    if state == RunState::Finished {
        TaskOutcome::Finished
    } else {
        TaskOutcome::Failed
    }
}

impl<V: View> Ctx<'_, V> {
    /// Writes a task's run-time state and moves the task to the index the new state belongs in; `None` is absence.
    ///
    /// A task that has ended, and is known how, lets those go on that wait for it.
    pub(super) fn set_status(
        &mut self,
        id: TaskId,
        old: Option<&TaskStatus>,
        new: Option<&TaskStatus>,
    ) -> Result<(), Fault> {
        let before = old.and_then(|status| index_of_task(id, status));
        let after = new.and_then(|status| index_of_task(id, status));
        if before != after {
            if let Some(key) = &before {
                self.delete(key);
            }
            if let Some(key) = &after {
                self.put_key(key);
                if let Key::Waiting(due, _) = key {
                    self.effect(Effect::WakeTicker(*due));
                }
            }
        }
        let over = new.filter(|status| status.has_told() && status.dependents > 0);
        match (new, over) {
            (_, Some(status)) => {
                self.release_dependents(id, status.state)?;
                let mut status = status.clone();
                status.dependents = 0;
                self.put(&Key::Status(id), Kind::TaskStatus, &status);
            }
            (Some(status), None) => self.put(&Key::Status(id), Kind::TaskStatus, status),
            (None, None) => self.delete(&Key::Status(id)),
        }
        self.note_calendars(id, old, new);
        let waits = |key: &Option<Key<'_>>| u64::from(matches!(key, Some(Key::Waiting(..))));
        self.meta.waiting = self.meta.waiting + waits(&after) - waits(&before);
        let is_over = |key: &Option<Key<'_>>| u64::from(matches!(key, Some(Key::EndedTask(..))));
        self.meta.ended_tasks = self.meta.ended_tasks + is_over(&after) - is_over(&before);
        self.meta.tasks = self.meta.tasks + u64::from(new.is_some()) - u64::from(old.is_some());
        if old.map(|s| (s.state, s.next)) != new.map(|s| (s.state, s.next)) {
            self.effect(Effect::TaskChanged { task: id });
        }
        Ok(())
    }

    /// Lists a task under the calendars it uses.
    fn note_calendars(&mut self, id: TaskId, old: Option<&TaskStatus>, new: Option<&TaskStatus>) {
        let used = |status: Option<&'_ TaskStatus>| status.map(used_by).unwrap_or_default().to_vec();
        let (before, after) = (used(old), used(new));
        if before == after {
            return;
        }
        if let Some(status) = old {
            for name in &before {
                self.delete(&Key::CalendarUse(&status.namespace, name, id));
            }
        }
        if let Some(status) = new {
            for name in &after {
                self.put_key(&Key::CalendarUse(&status.namespace, name, id));
            }
        }
    }

    /// Writes a run and moves it to the index its new state belongs in; `None` is absence.
    ///
    /// A run that leaves room in its group lets the next one have it.
    pub(super) fn set_run(&mut self, id: RunId, old: Option<&Run>, new: Option<&Run>) -> Result<(), Fault> {
        let before = old.map(index_of_run).unwrap_or_default();
        let after = new.map(index_of_run).unwrap_or_default();
        if before != after {
            for key in before.iter().flatten() {
                self.delete(key);
            }
            for key in after.iter().flatten() {
                self.put_key(key);
                match key {
                    Key::Waiting(due, _) => self.effect(Effect::WakeTicker(*due)),
                    Key::Ready(..) => self.effect(Effect::WakeDispatcher),
                    _ => {}
                }
            }
        }
        match new {
            Some(run) => self.put(&Key::Run(id), Kind::Run, run),
            None => self.delete(&Key::Run(id)),
        }
        if let Some(run) = old {
            *self.counter(run.state) -= 1;
        }
        if let Some(run) = new {
            *self.counter(run.state) += 1;
        }
        if old.map(|run| run.state) != new.map(|run| run.state) {
            self.effect(Effect::RunChanged { run: id });
        }
        self.move_room(old, new)
    }

    fn counter(&mut self, state: RunState) -> &mut u64 {
        match state {
            RunState::Ready => &mut self.meta.ready,
            RunState::Delayed { .. } | RunState::Held | RunState::Blocked => &mut self.meta.delayed,
            RunState::Assigned { .. } | RunState::Running { .. } => &mut self.meta.running,
            RunState::Lost { .. } => &mut self.meta.lost,
            RunState::Finished => &mut self.meta.finished,
            RunState::Failed | RunState::Terminated => &mut self.meta.failed,
        }
    }
}

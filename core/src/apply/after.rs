//! Tasks that wait for others: listed under each of those, released or doomed when they end.
//!
//! Whoever is released or doomed becomes due and is fired like any other, so that a pause, a shutdown and the ledger treat it as such,
//! and so that a chain of failures is worked off in bounded steps.

use super::ctx::{Ctx, Stop};
use crate::command::{Fault, Reject};
use crate::ids::TaskId;
use crate::limits;
use crate::tables::{Key, Table, View, decode_label_task};
use crate::task::{Ending, NextRun, TaskRef, TaskState, TaskStatus};

impl<V: View> Ctx<'_, V> {
    /// Finds the tasks that a new one shall wait for; the caller writes `status`.
    pub(super) fn find_parents(&self, status: &mut TaskStatus, parents: &[TaskRef], on: Ending) -> Result<(), Stop> {
        let invalid = |problem: String| Reject::Invalid {
            field: "schedule.after".into(),
            problem,
        };
        for parent in parents {
            let found = self.resolve(parent).and_then(|id| Ok((id, self.status(id)?)));
            let (id, parent_status) = match found {
                Ok(found) => found,
                Err(Stop::Reject(_)) => return Err(invalid(format!("there is no task {parent}")).into()),
                Err(fault) => return Err(fault),
            };
            if parent_status.state == TaskState::Terminated {
                return Err(invalid(format!("task {parent} was dequeued and will never end so")).into());
            }
            if let Some(problem) = refusal(id, &parent_status, on) {
                return Err(invalid(problem).into());
            }
            if parent_status.dependents >= limits::DEPENDENTS_MAX {
                let most = limits::DEPENDENTS_MAX;
                return Err(invalid(format!("{most} tasks wait for task {parent} already")).into());
            }
            if !status.waits_for.contains(&id) {
                status.waits_for.push(id);
            }
        }
        status.waits_on = on;
        Ok(())
    }

    /// Begins to wait; the caller writes `status`.
    pub(super) fn wait_for_parents(&mut self, id: TaskId, status: &mut TaskStatus) -> Result<(), Fault> {
        for parent in std::mem::take(&mut status.waits_for) {
            let Some(old) = self.find_status(parent)? else {
                status.doomed = Some(format!("task {parent}, which it waited for, is gone"));
                continue;
            };
            if let Some(problem) = refusal(parent, &old, status.waits_on) {
                status.doomed = Some(problem);
            } else if !old.has_told() {
                status.waits_for.push(parent);
                self.put_key(&Key::Dependent(parent, id));
                let mut new = old.clone();
                new.dependents += 1;
                self.set_status(parent, Some(&old), Some(&new))?;
            }
        }
        self.due_when_free(id, status)
    }

    /// Makes a task due that waits for nothing any more, or in vain.
    fn due_when_free(&mut self, id: TaskId, status: &mut TaskStatus) -> Result<(), Fault> {
        if status.doomed.is_some() {
            self.stop_waiting(id, status)?;
        }
        status.next = if status.waits_for.is_empty() {
            NextRun::At(self.now())
        } else {
            NextRun::Never
        };
        Ok(())
    }

    /// Takes a task from the lists of those it waits for; the caller writes `status`.
    pub(super) fn stop_waiting(&mut self, id: TaskId, status: &mut TaskStatus) -> Result<(), Fault> {
        for parent in std::mem::take(&mut status.waits_for) {
            self.delete(&Key::Dependent(parent, id));
            if let Some(old) = self.find_status(parent)? {
                let mut new = old.clone();
                new.dependents = new.dependents.saturating_sub(1);
                self.set_status(parent, Some(&old), Some(&new))?;
            }
        }
        Ok(())
    }

    /// Tells those that wait for a task how it has ended. The caller sets its `dependents` to 0.
    pub(super) fn release_dependents(&mut self, parent: TaskId, ended: TaskState) -> Result<(), Fault> {
        let (from, to) = Key::dependents_of(parent);
        let most = usize::try_from(limits::DEPENDENTS_MAX).unwrap_or(usize::MAX);
        for (key, _) in self.staged.scan(Table::Groups, &from, &to, most)? {
            let child = decode_label_task(&key).ok_or_else(|| Fault::Inconsistent("key of a dependent".into()))?;
            self.delete(&Key::Dependent(parent, child));
            let Some(old) = self.find_status(child)? else {
                return Err(Fault::Inconsistent(format!("task {child} waits and has no record")));
            };
            let mut new = old.clone();
            new.waits_for.retain(|id| *id != parent);
            new.doomed = doom(parent, ended, old.waits_on);
            self.due_when_free(child, &mut new)?;
            self.set_status(child, Some(&old), Some(&new))?;
        }
        Ok(())
    }
}

/// Why it is in vain to wait for a task, if it has ended.
fn refusal(parent: TaskId, status: &TaskStatus, on: Ending) -> Option<String> {
    if status.has_told() {
        doom(parent, status.state, on)
    } else {
        None
    }
}

fn doom(parent: TaskId, ended: TaskState, on: Ending) -> Option<String> {
    let (wanted, ended_as) = (on.as_str(), ended.as_str());
    match ended {
        TaskState::Terminated => Some(format!("task {parent}, which it waited for, was dequeued")),
        _ if on.is_met_by(ended == TaskState::Finished) => None,
        _ => Some(format!("task {parent} ended {ended_as}, it waited for {wanted}")),
    }
}

//! Who waits for a task or one of its runs to change. On every node, fed by the effects of what is applied there: nobody polls.

use sched_core::Effect;
use sched_core::ids::TaskId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// The waiting callers, by task.
#[derive(Default)]
pub(crate) struct Waits {
    by_task: Mutex<HashMap<TaskId, (Arc<Notify>, usize)>>,
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, (Arc<Notify>, usize)>> {
        // The map is consistent after every statement: a panic elsewhere in the process does not make it wrong.
        self.by_task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a handle that is told of every change of the task or its runs, from now on until it is dropped.
    pub(crate) fn watch(self: &Arc<Self>, task: TaskId) -> Watch {
        let mut by_task = self.lock();
        let (notify, watchers) = by_task.entry(task).or_default();
        *watchers += 1;
        Watch {
            waits: self.clone(),
            task,
            notify: notify.clone(),
        }
    }

    /// Tells the waiting callers what changed, until effects end.
    pub(crate) async fn run(&self, mut effects: Receiver<Arc<[Effect]>>) {
        loop {
            match effects.recv().await {
                Ok(batch) => self.tell(&batch),
                // Some were missed: everybody looks again.
                Err(RecvError::Lagged(_)) => self.lock().values().for_each(|(notify, _)| notify.notify_waiters()),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn tell(&self, batch: &[Effect]) {
        let by_task = self.lock();
        if by_task.is_empty() {
            return;
        }
        for effect in batch {
            let task = match effect {
                Effect::RunChanged { run } => run.task,
                Effect::TaskChanged { task } => *task,
                _ => continue,
            };
            if let Some((notify, _)) = by_task.get(&task) {
                notify.notify_waiters();
            }
        }
    }
}

/// One caller's interest in a task.
pub(crate) struct Watch {
    waits: Arc<Waits>,
    task: TaskId,
    notify: Arc<Notify>,
}

impl Watch {
    /// Returns a future that is ready at the next change. Changes are noticed from its first `enable` on: enable it, look, then await.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_task = self.waits.lock();
        if let Some((_, watchers)) = by_task.get_mut(&self.task) {
            *watchers -= 1;
            if *watchers == 0 {
                by_task.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test]
    async fn a_change_between_looking_and_waiting_is_noticed_and_nothing_is_left_behind() {
        let waits = Arc::new(Waits::default());
        let watch = waits.watch(TaskId(1));
        let other = waits.watch(TaskId(1));
        {
            let mut changed = pin!(watch.changed());
            changed.as_mut().enable();
            waits.tell(&[
                Effect::TaskChanged { task: TaskId(2) },
                Effect::TaskChanged { task: TaskId(1) },
            ]);
            changed.await;
        }
        drop(other);
        assert_eq!(waits.lock().len(), 1);
        drop(watch);
        assert!(waits.lock().is_empty());
    }
}

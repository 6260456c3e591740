//! Room in groups: a run becomes ready only while its group has room, otherwise it waits in the group's own order.
//!
//! Room is taken when a run becomes ready, not when it is assigned, so that the ready list holds only what may start.

use super::ctx::Ctx;
use crate::codec::Kind;
use crate::command::Fault;
use crate::limits;
use crate::run::{Run, RunState};
use crate::tables::{GroupRoom, Key, Table, View, decode_run};

impl<V: View> Ctx<'_, V> {
    /// Returns the state of a run that is due and free to start, as far as its own task is concerned.
    pub(super) fn ready_or_blocked(&self, run: &Run) -> Result<RunState, Fault> {
        let Some(group) = &run.group else {
            return Ok(RunState::Ready);
        };
        let room = self.room(&run.namespace, &group.name)?;
        // Those that wait already come first.
        if room.blocked > 0 || room.taken >= u64::from(group.limit) {
            return Ok(RunState::Blocked);
        }
        Ok(RunState::Ready)
    }

    fn room(&self, namespace: &str, group: &str) -> Result<GroupRoom, Fault> {
        Ok(self
            .get(&Key::Group(namespace, group), Kind::GroupRoom)?
            .unwrap_or_default())
    }

    /// Counts the room that a change of a run takes or leaves, and gives what is left to those that wait.
    pub(super) fn move_room(&mut self, old: Option<&Run>, new: Option<&Run>) -> Result<(), Fault> {
        let Some((run, group)) = old.or(new).and_then(|run| Some((run, run.group.as_ref()?))) else {
            return Ok(());
        };
        let takes = |run: Option<&Run>| u64::from(run.is_some_and(|run| run.state.takes_room()));
        let waits = |run: Option<&Run>| u64::from(run.is_some_and(|run| run.state == RunState::Blocked));
        let change = (takes(new), waits(new));
        let stood = (takes(old), waits(old));
        if change == stood {
            return Ok(());
        }
        let before = self.room(&run.namespace, &group.name)?;
        let room = GroupRoom {
            taken: before.taken + change.0 - stood.0,
            blocked: before.blocked + change.1 - stood.1,
        };
        let key = Key::Group(&run.namespace, &group.name);
        if room == GroupRoom::default() {
            self.delete(&key);
        } else {
            self.put(&key, Kind::GroupRoom, &room);
        }
        if room.taken < before.taken {
            self.admit(&run.namespace, &group.name)?;
        }
        Ok(())
    }

    /// Makes those ready that wait for room, in their order, while there is room for the first of them.
    fn admit(&mut self, namespace: &str, group: &str) -> Result<(), Fault> {
        let (from, to) = Key::blocked_of(namespace, group);
        for _ in 0..limits::ADMIT_MAX {
            let Some((key, _)) = self.staged.scan(Table::Groups, &from, &to, 1)?.pop() else {
                break;
            };
            let id = decode_run(&key).ok_or_else(|| Fault::Inconsistent("key of a group's queue".into()))?;
            let Some(old) = self.find_run(id)? else {
                return Err(Fault::Inconsistent(format!("blocked run {id} has no record")));
            };
            let limit = old.group.as_ref().map_or(0, |group| u64::from(group.limit));
            if self.room(namespace, group)?.taken >= limit {
                break;
            }
            let mut new = old.clone();
            new.state = RunState::Ready;
            self.set_run(id, Some(&old), Some(&new))?;
        }
        Ok(())
    }
}

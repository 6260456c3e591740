//! The life of a run within its task: created, ended, followed by the next one, forgotten.

use super::ctx::{Ctx, Stop};
use super::index::outcome_of;
use crate::codec::Kind;
use crate::command::{ClosedRange, Effect, Fault, MissedRange, Reject};
use crate::ids::{RunId, TaskId, Token};
use crate::limits;
use crate::run::{Attempt, AttemptEnd, LedgerFact, LedgerLine, Occurrence, Run, RunState};
use crate::session::Session;
use crate::tables::{Key, TaskOutcome, View, decode_u64};
use crate::task::{Delivery, NextRun, Overlap, ScheduleKind, TaskState, TaskStatus};
use crate::time::Timestamp;

/// What a new run is made from.
pub(super) struct NewRun {
    pub(super) occurrence: Occurrence,
    pub(super) scheduled_at: Timestamp,
    pub(super) params: Vec<(String, String)>,
}

/// Where a new run shall go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Ready,
    Held,
}

impl<V: View> Ctx<'_, V> {
    /// Creates the next run of a task. The caller writes `status`.
    pub(super) fn create_run(
        &mut self,
        task: TaskId,
        status: &mut TaskStatus,
        new: NewRun,
        place: Place,
    ) -> Result<RunId, Fault> {
        status.runs_created += 1;
        let id = RunId {
            task,
            number: status.runs_created,
        };
        let state = match place {
            Place::Ready => {
                status.live.push(id.number);
                RunState::Ready
            }
            Place::Held => {
                status.held.push(id.number);
                RunState::Held
            }
        };
        let mut run = Run {
            id,
            generation: status.generation,
            occurrence: new.occurrence,
            scheduled_at: new.scheduled_at,
            priority: status.policy.priority,
            namespace: status.namespace.clone(),
            group: status.policy.group.clone(),
            placement: status.policy.placement.clone(),
            params: new.params,
            state,
            cancelling: false,
            tries: 0,
            tries_before: 0,
            losses: 0,
            attempts_count: 0,
            attempts: Vec::new(),
            assigned_at: None,
            started_at: None,
            ended_at: None,
            exit_code: None,
            reason: String::new(),
            output_tail: Vec::new(),
            stale_reports: 0,
            delays: 0,
            put_off_since: None,
            queue: status.queue.clone(),
            result: Vec::new(),
        };
        if place == Place::Ready {
            self.let_go(status, &mut run)?;
        }
        self.set_run(id, None, Some(&run))?;
        Ok(id)
    }

    /// Lets a run go that nothing holds back any more: it may start, unless runs that are caught up with would follow each other too
    /// fast. The caller writes both.
    fn let_go(&mut self, status: &mut TaskStatus, run: &mut Run) -> Result<(), Fault> {
        if run.occurrence.takes_turns() {
            status.turn = Some(run.id.number);
        }
        if run.occurrence == Occurrence::CatchUp {
            let every = status.policy.catch_up_every_ms;
            let pace = i64::try_from(every).unwrap_or(i64::MAX);
            let now = self.now();
            let until = status.caught_up_at.map_or(now, |last| last.plus_millis(pace).max(now));
            status.caught_up_at = Some(until);
            if until > now {
                run.state = RunState::Delayed { until };
                run.reason = format!("missed runs are caught up with one every {every} ms");
                return Ok(());
            }
        }
        run.state = self.ready_or_blocked(run)?;
        Ok(())
    }

    /// Where a run asked for by hand goes under the overlap policy.
    pub(super) fn place_by_hand(&mut self, id: TaskId, status: &TaskStatus) -> Result<Place, Stop> {
        if status.live.len() + status.held.len() >= limits::LIVE_RUNS_MAX {
            let what = format!("task {id} has {} runs alive", limits::LIVE_RUNS_MAX);
            return Err(Reject::Overloaded {
                what,
                retry_after_ms: 1000,
            }
            .into());
        }
        if status.live.is_empty() {
            return Ok(Place::Ready);
        }
        let busy = |expected: &str| Reject::WrongState {
            what: format!("task {id}"),
            state: "RUNNING".into(),
            expected: expected.into(),
        };
        match status.policy.overlap {
            Overlap::Allow => Ok(Place::Ready),
            Overlap::Skip => Err(busy("its overlap policy is skip: wait for the run to end, or cancel it").into()),
            Overlap::QueueOne if !status.held.is_empty() => {
                Err(busy("its overlap policy is queue-one and one run waits already").into())
            }
            Overlap::QueueOne | Overlap::QueueAll => Ok(Place::Held),
            Overlap::Replace => Ok(Place::Held),
        }
    }

    /// Moves a run to a terminal state and settles its task: counters, retention, the next held run. The caller writes `status`.
    pub(super) fn end_run(
        &mut self,
        status: &mut TaskStatus,
        old: &Run,
        mut new: Run,
        state: RunState,
        reason: String,
    ) -> Result<(), Fault> {
        debug_assert!(state.is_terminal());
        new.state = state;
        new.cancelling = false;
        new.reason = reason;
        new.ended_at = Some(self.now());
        self.set_run(new.id, Some(old), Some(&new))?;
        let recovered = status.failing && state == RunState::Finished;
        match state {
            RunState::Finished => status.failing = false,
            RunState::Failed => status.failing = true,
            // Cancelled: nothing is known about whether it works.
            _ => {}
        }
        if !status.policy.notify.is_empty() {
            self.effect(Effect::RunEnded { run: new.id, recovered });
        }
        status.live.retain(|number| *number != new.id.number);
        status.held.retain(|number| *number != new.id.number);
        if status.turn == Some(new.id.number) {
            status.turn = None;
        }
        status.lost.retain(|number| *number != new.id.number);
        match outcome_of(state) {
            TaskOutcome::Finished => {
                status.finished += 1;
                status.finished_kept += 1;
            }
            TaskOutcome::Failed => {
                status.failed += 1;
                status.failed_kept += 1;
            }
        }
        self.release_held(status, new.id.task)?;
        self.settle(status, Some(state));
        let recurs = status.kind != ScheduleKind::OneShot && status.state != TaskState::Terminated;
        if recurs && status.dependents > 0 {
            // A task that recurs does not end: whoever waits for it waits for its next run.
            let ended = if state == RunState::Finished {
                TaskState::Finished
            } else {
                TaskState::Failed
            };
            self.release_dependents(new.id.task, ended)?;
            status.dependents = 0;
        }
        self.prune(status, new.id.task)
    }

    /// Makes the oldest held run ready when no run is in its way: where runs may overlap, only the one whose turn it is.
    pub(super) fn release_held(&mut self, status: &mut TaskStatus, task: TaskId) -> Result<(), Fault> {
        if status.held.is_empty() || !status.is_turn_free() {
            return Ok(());
        }
        let number = status.held.remove(0);
        let id = RunId { task, number };
        let Some(old) = self.find_run(id)? else {
            return Err(Fault::Inconsistent(format!("held run {id} has no record")));
        };
        let mut new = old.clone();
        self.let_go(status, &mut new)?;
        let at = status.live.partition_point(|other| *other < number);
        status.live.insert(at, number);
        self.set_run(id, Some(&old), Some(&new))?;
        Ok(())
    }

    /// Brings a task's state in line with its runs and its schedule; `ended` is how its last run ended, if one just did.
    pub(super) fn settle(&mut self, status: &mut TaskStatus, ended: Option<RunState>) {
        if matches!(status.state, TaskState::Terminated | TaskState::Spooled) {
            return;
        }
        status.state = match (status.is_busy(), status.next, status.kind) {
            (true, ..) => TaskState::Running,
            (false, NextRun::At(_) | NextRun::GaveUp { .. }, _) => TaskState::Queued,
            (false, NextRun::Never, ScheduleKind::Manual) => TaskState::Queued,
            (false, NextRun::Never, ScheduleKind::Periodic) => TaskState::Finished,
            (false, NextRun::Never, ScheduleKind::OneShot) if !status.waits_for.is_empty() => TaskState::Queued,
            (false, NextRun::Never, ScheduleKind::OneShot) => match ended {
                Some(RunState::Finished) => TaskState::Finished,
                Some(_) | None => TaskState::Failed,
            },
        };
        status.ended_at = if status.state.is_ended() {
            Some(status.ended_at.unwrap_or(self.meta.now))
        } else {
            None
        };
    }

    /// Deletes the oldest ended runs over the task's bounds: normally one per ended run. After a change of the bounds it may be many; a
    /// part of them goes with each run that ends.
    fn prune(&mut self, status: &mut TaskStatus, task: TaskId) -> Result<(), Fault> {
        let retention = status.policy.retention;
        for (outcome, max) in [
            (TaskOutcome::Finished, retention.finished_max),
            (TaskOutcome::Failed, retention.failed_max),
        ] {
            // At least the newest stays: `get` and `wait` answer from it.
            let max = max.max(1);
            for _ in 0..limits::PRUNE_MAX {
                let kept = if outcome == TaskOutcome::Finished {
                    status.finished_kept
                } else {
                    status.failed_kept
                };
                if kept <= max || !self.forget_oldest(status, task, outcome)? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn forget_oldest(&mut self, status: &mut TaskStatus, task: TaskId, outcome: TaskOutcome) -> Result<bool, Fault> {
        let (from, to) = Key::ended_of_task(task, outcome);
        let Some((key, _)) = self.staged.scan(crate::tables::Table::Ended, &from, &to, 1)?.pop() else {
            return Ok(false);
        };
        let Some(number) = key.get(10..).and_then(decode_u64) else {
            return Err(Fault::Inconsistent(format!("index of ended runs of task {task}")));
        };
        let Some(run) = self.find_run(RunId { task, number })? else {
            return Err(Fault::Inconsistent(format!("ended run {task}:{number} has no record")));
        };
        self.forget_run(status, &run)?;
        Ok(true)
    }

    /// Deletes an ended run's record. The caller writes `status`.
    pub(super) fn forget_run(&mut self, status: &mut TaskStatus, run: &Run) -> Result<(), Fault> {
        self.set_run(run.id, Some(run), None)?;
        match outcome_of(run.state) {
            TaskOutcome::Finished => status.finished_kept = status.finished_kept.saturating_sub(1),
            TaskOutcome::Failed => status.failed_kept = status.failed_kept.saturating_sub(1),
        }
        Ok(())
    }

    /// Asks for the end of a run: at once when nobody holds it, else by its worker. The caller writes `status`.
    pub(super) fn stop_run(&mut self, status: &mut TaskStatus, old: &Run, reason: &str) -> Result<(), Fault> {
        let Some((token, session)) = old.state.holder() else {
            return self.end_run(status, old, old.clone(), RunState::Terminated, reason.to_owned());
        };
        if !old.cancelling {
            let mut new = old.clone();
            new.cancelling = true;
            new.reason = reason.to_owned();
            self.set_run(old.id, Some(old), Some(&new))?;
        }
        self.effect(Effect::Kill {
            run: old.id,
            token,
            session,
        });
        Ok(())
    }

    /// Asks for the end of every run of a task, the waiting ones first so that none of them starts. The caller writes `status`.
    pub(super) fn stop_all(&mut self, task: TaskId, status: &mut TaskStatus, reason: &str) -> Result<(), Fault> {
        let numbers: Vec<u64> = status.held.iter().chain(&status.live).copied().collect();
        for number in numbers {
            let id = RunId { task, number };
            let Some(run) = self.find_run(id)? else {
                return Err(Fault::Inconsistent(format!("live run {id} has no record")));
            };
            if !run.state.is_terminal() {
                self.stop_run(status, &run, reason)?;
            }
        }
        Ok(())
    }

    /// Notes that occurrences get no run, for the same reason. The caller writes `status`.
    pub(super) fn miss(&mut self, task: TaskId, status: &mut TaskStatus, range: &MissedRange) {
        status.last_scheduled = status.last_scheduled.max(Some(range.last));
        status.occurrences += range.count;
        let fact = LedgerFact::Missed {
            first: range.first,
            last: range.last,
            count: range.count,
            reason: range.reason.clone(),
        };
        self.ledger(task, status, fact);
    }

    /// Notes that occurrences get no run because a calendar closes their time. When they follow on those of the newest line, with
    /// nothing decided in between, that line grows. The caller writes `status`.
    pub(super) fn skip_closed(
        &mut self,
        task: TaskId,
        status: &mut TaskStatus,
        range: &ClosedRange,
    ) -> Result<(), Fault> {
        let newest = match status.ledger_lines.checked_sub(1) {
            Some(number) => self.get::<LedgerLine>(&Key::Ledger(task, number), Kind::LedgerLine)?,
            None => None,
        };
        let mut fact = LedgerFact::Closed {
            first: range.first,
            last: range.last,
            count: range.count,
            calendar: range.calendar.clone(),
        };
        if let Some(LedgerFact::Closed {
            first,
            last,
            count,
            calendar,
        }) = newest.map(|line| line.fact)
            && status.last_scheduled == Some(last)
            && calendar == range.calendar
        {
            fact = LedgerFact::Closed {
                first,
                last: range.last,
                count: count.saturating_add(range.count),
                calendar,
            };
            status.ledger_lines -= 1;
        }
        status.last_scheduled = status.last_scheduled.max(Some(range.last));
        status.occurrences = status.occurrences.saturating_add(range.count);
        self.meta.skipped = self.meta.skipped.saturating_add(range.count);
        self.ledger(task, status, fact);
        Ok(())
    }

    /// Notes that an occurrence gets no run. The caller writes `status`.
    pub(super) fn skip(&mut self, task: TaskId, status: &mut TaskStatus, scheduled_at: Timestamp, reason: String) {
        self.ledger(task, status, LedgerFact::Skipped { scheduled_at, reason });
    }
}

/// Adds an attempt to a run's record, which describes the newest ones only.
pub(super) fn begin_attempt(run: &mut Run, token: Token, session: &Session, delivery: Delivery, now: Timestamp) {
    run.attempts_count += 1;
    run.tries += 1;
    run.assigned_at.get_or_insert(now);
    if run.attempts.len() == limits::ATTEMPTS_KEPT_MAX {
        run.attempts.remove(0);
    }
    run.attempts.push(Attempt {
        token,
        worker: session.worker.clone(),
        assigned_at: now,
        ended: None,
        at_most_once: delivery == Delivery::AtMostOnce,
        journal: session.journal,
        journal_length: 0,
    });
}

/// Notes how an attempt ended, when it is still described.
pub(super) fn end_attempt(run: &mut Run, token: Token, end: AttemptEnd) {
    if let Some(attempt) = run.attempts.iter_mut().rev().find(|attempt| attempt.token == token) {
        attempt.ended = Some(end);
    }
}

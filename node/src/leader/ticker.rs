//! Starts what is due: sleeps until the next due time, reads what came due from the waiting queue, and proposes it in bounded rounds.
//!
//! There is no polling interval. The waiting queue is read from the remembered head on, because below it lies nothing but what the
//! database has not cleared away yet; when something is put below the head, an effect says so.

use super::{RETRY, Term};
use crate::calendars::Compiled;
use crate::recurrences::{Recurrences, TRY_AGAIN_MS, compile, guarded};
use crate::shared::{OrStop, Shared, aside};
use crate::state::{self, END};
use crate::zones::SystemZones;
use sched_core::calendar::Calendars;
use sched_core::command::{Command, Fault, FireItem, Item, MissedRange, Reply};
use sched_core::ids::{RunId, TaskId};
use sched_core::limits::{LATE_NOT_MISSED_MS, ROUND_ITEMS_MAX};
use sched_core::plan::{Candidate, next_run, paused_range, plan_fire, plan_fire_alone, run_time_anew};
use sched_core::schedule::{DECISION_STEPS_MAX, Occurrences, Recurrence};
use sched_core::tables::{Key, Table, View, Waiting, decode_waiting};
use sched_core::task::{NextRun, Overlap, ScheduleKind, TaskRef, TaskStatus};
use sched_core::{Reject, Timestamp};
use sched_raft::ProposeError;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Due entries read at once.
const PAGE: usize = ROUND_ITEMS_MAX + 1;
/// Steps of searches in one round: then what was decided is proposed before more is searched for.
const ROUND_STEPS_MAX: u64 = 4 * DECISION_STEPS_MAX as u64;
/// Longest sleep of one timer; then the clock is looked at again.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Tells the ticker that something is due at an instant.
pub(super) struct Wake {
    notify: Notify,
    /// The earliest instant since the ticker last looked.
    earliest_ms: AtomicI64,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            notify: Notify::new(),
            earliest_ms: AtomicI64::new(i64::MAX),
        }
    }
}

impl Wake {
    pub(super) fn poke(&self, at: Timestamp) {
        self.earliest_ms.fetch_min(at.as_millis(), Ordering::AcqRel);
        self.notify.notify_one();
    }

    fn take(&self) -> Timestamp {
        Timestamp::from_millis(self.earliest_ms.swap(i64::MAX, Ordering::AcqRel))
    }
}

/// What one look at the waiting queue found.
#[derive(Default)]
struct Round {
    fires: Vec<FireItem>,
    /// Runs that the fires create and that may start at once.
    first_runs: Vec<RunId>,
    dues: Vec<RunId>,
    /// Pauses that end, searches that are repeated.
    others: Vec<Command>,
    /// Something is due that nothing can be proposed for.
    stuck: bool,
    /// More is due than one round takes.
    full: bool,
    /// Due time of the last entry read.
    last: Option<Timestamp>,
    /// The next due time after now.
    next: Option<Timestamp>,
    /// Runs were ready before these: they come first.
    backlog: bool,
    /// The scheduler is shut down, or held because clocks are apart.
    shut_down: bool,
    gave_up: u64,
    /// Steps that its searches took.
    steps: u64,
}

impl Round {
    fn is_empty(&self) -> bool {
        self.fires.is_empty() && self.dues.is_empty() && self.others.is_empty()
    }

    fn len(&self) -> usize {
        self.fires.len() + self.dues.len() + self.others.len()
    }
}

/// Starts what is due until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>) {
    let mut planner = Planner {
        zones: shared.zones.clone(),
        recurrences: Recurrences::default(),
        calendars: Compiled::default(),
    };
    let mut head = Timestamp::MIN;
    loop {
        // Taken before the view: what is poked later is seen next time.
        head = head.min(term.ticker.take());
        let now = shared.clock.now();
        let view = shared.replica.view();
        let (from, held) = (head, term.clock_apart.load(Ordering::Relaxed));
        let planned = aside(move || (planner.plan(&view, from, now, held), planner)).await;
        let Ok((round, kept)) = planned else {
            // The log says what happened; the cache is gone, nothing else.
            planner = Planner {
                zones: shared.zones.clone(),
                recurrences: Recurrences::default(),
                calendars: Compiled::default(),
            };
            tokio::time::sleep(RETRY).await;
            continue;
        };
        planner = kept;
        let round = round.or_stop();
        shared.counters.gave_up.add(round.gave_up);
        if !round.is_empty() {
            match propose(&shared, &term, &round).await {
                Settled::All if !round.stuck && !round.full => {
                    // What is proposed from here on pokes the ticker; what was there already is in `next`.
                    head = sleep(&shared, &term, now, round.next).await;
                }
                Settled::All if !round.stuck => head = round.last.unwrap_or(head),
                Settled::All | Settled::Some => {}
                Settled::Nothing => tokio::time::sleep(RETRY).await,
            }
            continue;
        }
        if !round.stuck && !round.shut_down {
            head = now;
        }
        let next = if round.shut_down { None } else { round.next };
        head = sleep(&shared, &term, head, next).await;
    }
}

/// Sleeps until `next`, or until something is due earlier. Returns the new head.
async fn sleep(shared: &Shared, term: &Term, mut head: Timestamp, next: Option<Timestamp>) -> Timestamp {
    let target = next.unwrap_or(Timestamp::MAX);
    loop {
        let wait = target.millis_since(shared.clock.now());
        if wait <= 0 {
            return head;
        }
        let wait = Duration::from_millis(wait.unsigned_abs()).min(SLEEP_MAX);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = term.ticker.notify.notified() => {
                let earliest = term.ticker.take();
                head = head.min(earliest);
                if earliest < target {
                    return head;
                }
            }
        }
    }
}

/// How much of a round took effect. What did not is looked at again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    All,
    Some,
    Nothing,
}

/// Proposes a round. Runs that find room are assigned in the same entry.
async fn propose(shared: &Shared, term: &Term, round: &Round) -> Settled {
    let mut items = Vec::with_capacity(3 + round.others.len());
    let mut placed = Vec::new();
    if !round.fires.is_empty() {
        let fire = Command::Fire {
            leader_since: term.since,
            items: round.fires.clone(),
        };
        items.push(Item::internal(fire));
        if !round.backlog {
            let first: Vec<Candidate> = round.first_runs.iter().copied().map(Candidate::anywhere).collect();
            placed = term.hub.place(&first);
        }
        if !placed.is_empty() {
            items.push(Item::internal(Command::Assign { items: placed.clone() }));
        }
    }
    if !round.dues.is_empty() {
        items.push(Item::internal(Command::Due {
            runs: round.dues.clone(),
        }));
    }
    items.extend(round.others.iter().cloned().map(Item::internal));
    let (mut done, mut not_done) = (0, 0);
    let mut results = shared.replica.propose_internal(items).await.into_iter();
    if !round.fires.is_empty() {
        let refused = fired(shared, term, round, results.next());
        done += round.fires.len() - refused;
        not_done += refused;
    }
    if !placed.is_empty() {
        let assigned = results.next().unwrap_or(Err(ProposeError::Stopped));
        super::dispatcher::settle(shared, term, &placed, assigned).await;
    }
    for result in results {
        match result {
            Ok(_) => done += 1,
            Err(e) => {
                tracing::info!(error = %e, term = term.number, "a due change was not made, looking again");
                not_done += 1;
            }
        }
    }
    match (done, not_done) {
        (_, 0) => Settled::All,
        (0, _) => Settled::Nothing,
        _ => Settled::Some,
    }
}

/// Counts what a fire did; returns how many of its items took no effect.
fn fired(shared: &Shared, term: &Term, round: &Round, result: Option<Result<Reply, ProposeError>>) -> usize {
    match result {
        Some(Ok(Reply::Fired { runs, refused })) => {
            shared.counters.fired.add(runs.len() as u64);
            shared.counters.refused.add(refused.into());
            let closed = round.fires.iter().filter_map(|f| f.closed.as_ref());
            shared.counters.closed.add(closed.map(|c| c.count).sum());
            shared.counters.missed.add(
                round
                    .fires
                    .iter()
                    .filter_map(|f| f.missed.as_ref())
                    .map(|m| m.count)
                    .sum(),
            );
            usize::try_from(refused).unwrap_or(usize::MAX).min(round.fires.len())
        }
        Some(Err(e)) => {
            tracing::info!(error = %e, due = round.fires.len(), term = term.number, "due tasks not fired, looking again");
            round.fires.len()
        }
        Some(Ok(_)) | None => round.fires.len(),
    }
}

struct Planner {
    zones: Arc<SystemZones>,
    recurrences: Recurrences,
    calendars: Compiled,
}

/// Returns the first key of everything due at or after an instant.
fn from_instant(at: Timestamp) -> Vec<u8> {
    if at <= Timestamp::MIN {
        Vec::new()
    } else {
        Key::waiting_until(at.plus_millis(-1)).1
    }
}

impl Planner {
    fn plan(&mut self, view: &impl View, head: Timestamp, now: Timestamp, held: bool) -> Result<Round, Fault> {
        let meta = state::meta(view)?;
        let shut_down = held || meta.shutdown.is_some();
        let mut round = Round {
            backlog: meta.ready > 0,
            shut_down,
            ..Round::default()
        };
        if round.shut_down {
            return Ok(round);
        }
        let (mut low, high) = (from_instant(head), Key::waiting_until(now).1);
        loop {
            let page = view.scan(Table::Waiting, &low, &high, PAGE)?;
            for (key, _) in &page {
                if round.len() >= ROUND_ITEMS_MAX || round.steps >= ROUND_STEPS_MAX {
                    round.full = true;
                    return Ok(round);
                }
                let (due, what) =
                    decode_waiting(key).ok_or_else(|| Fault::Inconsistent("key of the waiting queue".into()))?;
                round.last = Some(due);
                match what {
                    Waiting::Run(run) => round.dues.push(run),
                    Waiting::Task(task) => self.plan_task(view, task, now, &mut round)?,
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => {
                    low = last.clone();
                    low.push(0);
                }
                _ => break,
            }
        }
        let after = view.scan(Table::Waiting, &high, &END, 1)?;
        round.next = after
            .first()
            .and_then(|(key, _)| decode_waiting(key))
            .map(|(due, _)| due);
        Ok(round)
    }

    fn plan_task(&mut self, view: &impl View, id: TaskId, now: Timestamp, round: &mut Round) -> Result<(), Fault> {
        let Some(status) = state::status(view, id)? else {
            return Err(Fault::Inconsistent(format!("task {id} waits and has no record")));
        };
        if status.pause.is_some() {
            let (next, paused) = self.anew(view, id, &status, now)?;
            let task = TaskRef::Id(id);
            round.others.push(Command::Resume {
                task,
                generation: status.generation,
                next,
                paused,
            });
            return Ok(());
        }
        if let NextRun::GaveUp { searched_until, .. } = status.next {
            return self.search_again(view, id, &status, searched_until, now, round);
        }
        let calendars = self
            .calendars
            .of(view, &*self.zones, &status.namespace, &status.bounds.calendars)?;
        let alone = |why: &dyn std::fmt::Display| {
            tracing::error!(task = %id, error = %why, "no next run of a task can be computed, it is tried again later");
            // What came due after it is found when the search works again.
            let NextRun::At(cursor) = status.next else { return None };
            plan_fire_alone(id, &status, &calendars, later(cursor, now), now)
        };
        let item = match self.recurrence(view, id, &status)? {
            Ok(recurrence) => {
                let mut due = Occurrences::new(&recurrence, &calendars);
                let item = guarded(|| plan_fire(id, &status, &mut due, now));
                round.steps += u64::from(due.steps_taken());
                item.unwrap_or_else(|| alone(&"the search failed"))
            }
            Err(reject) => alone(&reject),
        };
        let Some(item) = item else {
            tracing::error!(task = %id, state = status.state.as_str(), "a due task cannot be fired");
            round.stuck = true;
            return Ok(());
        };
        if matches!(item.next, NextRun::GaveUp { .. }) {
            tracing::warn!(task = %id, "the search for the next run gave up, it is repeated later");
            round.gave_up += 1;
        }
        round.first_runs.extend(startable(&status, &item, now));
        round.fires.push(item);
        Ok(())
    }

    fn recurrence(
        &mut self,
        view: &impl View,
        id: TaskId,
        status: &TaskStatus,
    ) -> Result<Result<Recurrence, Reject>, Fault> {
        let mut fault = None;
        let zones = self.zones.clone();
        let found = self
            .recurrences
            .get((id, status.generation), || match state::task(view, id) {
                Ok(Some(task)) => compile(&task.spec, &*zones).map_err(Some),
                Ok(None) => {
                    fault = Some(Fault::Inconsistent(format!("task {id} waits and has no definition")));
                    Err(None)
                }
                Err(e) => {
                    fault = Some(e);
                    Err(None)
                }
            });
        match (found, fault) {
            (_, Some(fault)) => Err(fault),
            (Ok(recurrence), None) => Ok(Ok(recurrence)),
            (Err(reject), None) => Ok(Err(reject.unwrap_or(Reject::NotFound {
                what: format!("schedule of task {id}"),
            }))),
        }
    }

    /// The run time of a task whose pause is over, and the occurrences that fell into it.
    fn anew(
        &mut self,
        view: &impl View,
        id: TaskId,
        status: &TaskStatus,
        now: Timestamp,
    ) -> Result<(NextRun, Option<MissedRange>), Fault> {
        let Some(task) = state::task(view, id)? else {
            return Err(Fault::Inconsistent(format!("task {id} waits and has no definition")));
        };
        let compiled = self.recurrence(view, id, status)?.ok();
        let calendars = Calendars::default();
        let anew = |compiled: Recurrence| {
            let next = run_time_anew(&task.spec.schedule, &compiled, now);
            // What fell into a pause is one range, whatever the calendars say.
            let paused = paused_range(status, &mut Occurrences::new(&compiled, &calendars), now);
            (next, paused)
        };
        let found = compiled.and_then(|compiled| guarded(|| anew(compiled)));
        Ok(found.unwrap_or_else(|| (later(now, now), None)))
    }

    /// Goes on with a search that gave up, from where it stopped.
    fn search_again(
        &mut self,
        view: &impl View,
        id: TaskId,
        status: &TaskStatus,
        searched_until: Timestamp,
        now: Timestamp,
        round: &mut Round,
    ) -> Result<(), Fault> {
        let compiled = self.recurrence(view, id, status)?.ok();
        let next = compiled.and_then(|compiled| guarded(|| next_run(compiled.next_after(searched_until), now)));
        let next = next.unwrap_or_else(|| later(searched_until, now));
        round.gave_up += u64::from(matches!(next, NextRun::GaveUp { .. }));
        round.others.push(Command::SearchedAgain {
            task: id,
            generation: status.generation,
            next,
        });
        Ok(())
    }
}

/// The answer of a search that could not be made.
pub(super) fn later(searched_until: Timestamp, now: Timestamp) -> NextRun {
    NextRun::GaveUp {
        retry_at: now.plus_millis(TRY_AGAIN_MS),
        searched_until,
    }
}

/// Returns the runs that a fire will create and that nothing holds back: what can be assigned in the same entry. A wrong guess is refused.
fn startable(status: &TaskStatus, item: &FireItem, now: Timestamp) -> impl Iterator<Item = RunId> {
    let idle = status.live.is_empty() && status.held.is_empty();
    // Where room in a group or certain workers are needed, the dispatcher looks; so it does while missed runs are caught up with.
    let plain = status.policy.group.is_none() && status.policy.placement.is_any() && status.queue.is_none();
    let missed =
        |at: &&Timestamp| status.kind == ScheduleKind::Periodic && now.millis_since(**at) >= LATE_NOT_MISSED_MS;
    let caught_up = item.runs.iter().filter(missed).count();
    let count = match (status.policy.overlap, idle) {
        _ if !plain => 0,
        (Overlap::Allow, _) if caught_up == 0 => item.runs.len(),
        (_, true) if status.caught_up_at.is_none() || caught_up == 0 => item.runs.len().min(1),
        _ => 0,
    };
    let (task, created) = (item.task, status.runs_created);
    (1..=count as u64).map(move |n| RunId {
        task,
        number: created + n,
    })
}

#[cfg(test)]
mod tests;

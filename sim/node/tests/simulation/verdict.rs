//! Whether the cluster has come to rest, and whether everything that was acknowledged is there.

use crate::actor::Actor;
use crate::client::{Answers, Told};
use crate::recorder::Recorder;
use sched_core::Timestamp;
use sched_core::apply::{decode_record, read_record};
use sched_core::codec::Kind;
use sched_core::command::Fault;
use sched_core::ids::{RunId, TaskId};
use sched_core::run::{LedgerFact, LedgerLine, Run, RunState};
use sched_core::tables::{Key, Meta, Pair, Table, View, decode_ready, decode_task, decode_waiting};
use sched_core::task::{NextRun, Task, TaskState, TaskStatus};
use sim_ground::World;
use sim_node::host::Host;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is due may wait so long for the next step of the cluster.
const STEP_MS: i64 = 2_500;
/// Leader time is within half a second of a majority's clocks, which may be as far from true time.
const CLOCK_MS: i64 = 1_000;
/// After every key there is.
const END: [u8; 33] = [0xff; 33];
/// Records of a seed are far fewer.
const RECORDS_MAX: usize = 1 << 20;

/// Returns what keeps the cluster from being at rest; nothing when it is.
pub(crate) fn unrest(
    world: &World,
    hosts: &[Arc<Host>],
    recorder: &Recorder,
    actors: &[Arc<Actor>],
    answers: &Answers,
) -> Option<String> {
    let busy = answers.busy.load(Ordering::SeqCst);
    if busy > 0 {
        return Some(format!("{busy} clients wait for an answer"));
    }
    let Some(leader) = hosts.iter().find(|host| host.leads()).and_then(|host| host.replica()) else {
        return Some("there is no leader".into());
    };
    let voters = leader.members().iter().filter(|member| member.voter).count();
    if voters != hosts.len() {
        return Some(format!("{voters} of {} nodes vote", hosts.len()));
    }
    let applied = leader.metrics().applied_index;
    for host in hosts {
        let there = host.replica().map_or(0, |replica| replica.metrics().applied_index);
        if there + 3 < applied {
            return Some(format!("{} is at {there} of {applied}", host.name));
        }
    }
    let view = leader.view();
    let found = waiting(world, &view).and_then(|found| match found {
        Some(found) => Ok(Some(found)),
        None => runs_under_way(&view, recorder, actors, world),
    });
    found.unwrap_or_else(|fault| Some(fault.to_string()))
}

/// Something that is due for too long and has not become a run, or a run that nobody was given.
fn waiting(world: &World, view: &impl View) -> Result<Option<String>, Fault> {
    let state: Meta = read_record(view, &Key::Meta, Kind::Meta)?.unwrap_or_default();
    if state.shutdown.is_some() {
        return Ok(Some("the scheduler is shut down".into()));
    }
    if state.spooled() > 0 {
        return Ok(Some(format!("{} operations are in the spool", state.spooled())));
    }
    let late = Timestamp::from_millis(world.now_ms() - STEP_MS);
    let due = view.scan(Table::Waiting, &[], &Key::waiting_until(late).1, 1)?;
    if let Some((due, what)) = due.first().and_then(|(key, _)| decode_waiting(key)) {
        return Ok(Some(format!("{what:?} is due since {due}")));
    }
    for (key, _) in view.scan(Table::Ready, &[], &END, RECORDS_MAX)? {
        if let Some((.., due, id)) = decode_ready(&key)
            && due < late
        {
            return Ok(Some(format!("{id} is ready since {due}")));
        }
    }
    Ok(None)
}

/// A run that the tables say is under way and that nobody executes.
fn runs_under_way(
    view: &impl View,
    recorder: &Recorder,
    actors: &[Arc<Actor>],
    world: &World,
) -> Result<Option<String>, Fault> {
    for (key, value) in view.scan(Table::Runs, &[], &END, RECORDS_MAX)? {
        let run: Run = decode_record(Table::Runs, &key, Kind::Run, &value)?;
        match run.state {
            RunState::Running { token, .. } | RunState::Assigned { token, .. } => {
                let since = run.attempts.last().map_or(0, |attempt| attempt.assigned_at.as_millis());
                if !recorder.executes(run.id, token) && since + STEP_MS < world.now_ms() {
                    return Ok(Some(format!(
                        "{} is {} and is not executed",
                        run.id,
                        run.state.as_str()
                    )));
                }
            }
            // Of one that its worker wrote down, the worker tells; of others nobody knows, and that is shown.
            RunState::Lost { token, .. } if actors.iter().any(|actor| actor.knows(run.id, token)) => {
                return Ok(Some(format!("{} is LOST, and its worker knows of it", run.id)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Compares what was acknowledged with what is there.
pub(crate) fn judge(world: &World, view: &impl View, answers: &Answers, recorder: &Recorder) -> Result<(), Fault> {
    let mut marks: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
    for (key, value) in view.scan(Table::Tasks, &[], &END, RECORDS_MAX)? {
        let task: Task = decode_record(Table::Tasks, &key, Kind::Task, &value)?;
        if let Some(id) = decode_task(&key) {
            marks.entry(task.spec.description).or_default().push(id);
        }
    }
    for (mark, ids) in &marks {
        if ids.len() > 1 {
            world.finding(format!("{mark} was submitted once and is there as {ids:?}"));
        }
    }
    let cleared = answers.cleared.load(Ordering::SeqCst);
    for told in answers.told().values() {
        let found = marks.get(&told.mark).and_then(|ids| ids.first().copied());
        match found {
            Some(id) => {
                if told.id.is_some_and(|said| said != id) {
                    world.finding(format!("{} was accepted as {:?} and is {id}", told.mark, told.id));
                }
                judge_task(world, view, told, id, cleared, recorder)?;
            }
            None if told.spooled && cleared => {}
            None => world.finding(format!("{} was accepted as {:?} and is lost", told.mark, told.id)),
        }
    }
    Ok(())
}

fn judge_task(
    world: &World,
    view: &impl View,
    told: &Told,
    id: TaskId,
    cleared: bool,
    recorder: &Recorder,
) -> Result<(), Fault> {
    let Some(status) = read_record::<TaskStatus>(view, &Key::Status(id), Kind::TaskStatus)? else {
        return Err(Fault::Inconsistent(format!("task {id} has no status")));
    };
    let mark = &told.mark;
    if let Some(spooled) = told.dequeued
        && !(spooled && cleared)
        && matches!(status.state, TaskState::Spooled | TaskState::Queued)
    {
        world.finding(format!("{mark} ({id}) was dequeued and is {}", status.state.as_str()));
    }
    for triggered in &told.triggered {
        if read_record::<Run>(view, &Key::Run(*triggered), Kind::Run)?.is_none() {
            world.finding(format!("{mark}: run {triggered} was acknowledged and is lost"));
        }
    }
    for (_, value) in ledger(view, id)? {
        let line: LedgerLine = decode_record(Table::Ledger, &[], Kind::LedgerLine, &value)?;
        // A trigger that was spooled finds the run before it still under way: that is an answer.
        if let LedgerFact::DrainFailed { reason } = line.fact
            && !cleared
            && !(told.manual && reason.contains("overlap policy is skip"))
        {
            world.finding(format!("{mark}: an operation in the spool failed: {reason}"));
        }
    }
    if let Some(every_ms) = told.every_ms
        && told.untouched
        && told.dequeued.is_none()
    {
        occurrences(world, view, told, id, &status, every_ms)?;
    }
    times(world, view, told, id, &status)?;
    one_shots(world, view, told, id, &status, recorder)
}

/// What is counted from a task's acceptance was counted by a clock that was right.
fn times(world: &World, view: &impl View, told: &Told, id: TaskId, status: &TaskStatus) -> Result<(), Fault> {
    let next = match status.next {
        NextRun::At(at) => Some(at.as_millis()),
        _ => None,
    };
    let runs = runs_of(view, id)?;
    let first = runs.iter().map(|run| run.scheduled_at.as_millis()).min().or(next);
    let Some(first) = first.filter(|_| told.untouched && !told.spooled && !told.manual) else {
        return Ok(());
    };
    let length = |ms: Option<u64>| i64::try_from(ms.unwrap_or(0)).unwrap_or(i64::MAX);
    let earliest = match (told.in_ms, told.every_ms) {
        (Some(_), _) => told.asked_ms + length(told.in_ms),
        (_, Some(_)) => told.asked_ms,
        _ => return Ok(()),
    };
    let latest = told.answered_ms + length(told.in_ms) + length(told.every_ms);
    // Of many runs the oldest are not kept.
    let whole = status.runs_created == runs.len() as u64;
    if first < earliest - CLOCK_MS || (whole && first > latest + CLOCK_MS) {
        world.finding(format!(
            "{} ({id}) is due first at {first}, and not between {earliest} and {latest}",
            told.mark
        ));
    }
    Ok(())
}

fn ledger(view: &impl View, id: TaskId) -> Result<Vec<Pair>, Fault> {
    let (from, to) = Key::ledger_of(id, 0);
    view.scan(Table::Ledger, &from, &to, RECORDS_MAX)
}

fn runs_of(view: &impl View, id: TaskId) -> Result<Vec<Run>, Fault> {
    let (from, to) = Key::runs_of(id, 0);
    let pairs = view.scan(Table::Runs, &from, &to, RECORDS_MAX)?;
    pairs
        .iter()
        .map(|(key, value)| decode_record(Table::Runs, key, Kind::Run, value))
        .collect()
}

/// Every occurrence of a task that recurs has one run, and none has two.
fn occurrences(
    world: &World,
    view: &impl View,
    told: &Told,
    id: TaskId,
    status: &TaskStatus,
    every_ms: u64,
) -> Result<(), Fault> {
    let mut times: Vec<i64> = runs_of(view, id)?
        .iter()
        .map(|run| run.scheduled_at.as_millis())
        .collect();
    times.sort_unstable();
    let every = i64::try_from(every_ms).unwrap_or(1);
    for pair in times.windows(2) {
        if pair[1] - pair[0] != every {
            let gap = pair[1] - pair[0];
            world.finding(format!(
                "{} ({id}): two occurrences {gap} ms apart, and not {every}",
                told.mark
            ));
            return Ok(());
        }
    }
    if let (NextRun::At(next), Some(last)) = (status.next, times.last())
        && next.as_millis() - last != every
    {
        world.finding(format!(
            "{} ({id}): the last occurrence is {last}, the next {next}",
            told.mark
        ));
    }
    Ok(())
}

/// A task that was due once has a run, and it has started unless its worker never could.
fn one_shots(
    world: &World,
    view: &impl View,
    told: &Told,
    id: TaskId,
    status: &TaskStatus,
    recorder: &Recorder,
) -> Result<(), Fault> {
    if told.every_ms.is_some() || told.manual || told.dequeued.is_some() {
        return Ok(());
    }
    let mark = &told.mark;
    match (status.next, status.runs_created) {
        (NextRun::At(at), 0) if at.as_millis() < world.now_ms() - STEP_MS => {
            world.finding(format!("{mark} ({id}) was due at {at} and has no run"));
        }
        (_, 0) if status.state.is_ended() => world.finding(format!("{mark} ({id}) has ended without a run")),
        (_, 2..) => world.finding(format!(
            "{mark} ({id}) was due once and has {} runs",
            status.runs_created
        )),
        _ => {}
    }
    for run in runs_of(view, id)? {
        if run.state == RunState::Finished && !recorder.ever_started(run.id) {
            let run: RunId = run.id;
            world.finding(format!("{mark}: run {run} is finished and never started"));
        }
    }
    Ok(())
}

//! Why a task or a run is where it is, what comes next, and what could prevent it: in sentences, read from the tables alone.

use crate::apply::{decode_record, read_record};
use crate::codec::Kind;
use crate::command::Fault;
use crate::ids::{RunId, SessionId, TaskId};
use crate::plan::next_run;
use crate::run::{LedgerFact, LedgerLine, Occurrence, Run, RunState};
use crate::schedule::Occurrences;
use crate::session::{Drained, Session, serves};
use crate::tables::{GroupRoom, Key, Meta, Table, View, decode_session};
use crate::task::{NextRun, Overlap, ScheduleKind, Task, TaskState, TaskStatus};
use crate::time::Timestamp;

/// Runs and ledger lines that are described one by one.
const DESCRIBED_MAX: usize = 10;
/// Workers that are named.
const NAMED_MAX: usize = 3;
/// Workers that are looked at.
const WORKERS_MAX: usize = 1000;

/// What depends on zone data about the next occurrence of a task: whoever asks has it looked up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ahead {
    /// The calendar that closes the next occurrence, and until when.
    pub closed: Option<(String, Timestamp)>,
    /// The next occurrence that no calendar closes.
    pub open: Option<NextRun>,
}

impl Ahead {
    /// Looks it up.
    pub fn of(status: &TaskStatus, occurrences: &Occurrences<'_>) -> Self {
        let NextRun::At(next) = status.next else {
            return Self::default();
        };
        let Some((name, stretch)) = occurrences.calendars().covering(next) else {
            return Self::default();
        };
        Self {
            closed: Some((name.to_owned(), stretch.to)),
            open: Some(next_run(occurrences.next_open(next), next)),
        }
    }
}

/// Explains a task; nothing when there is none.
///
/// # Errors
/// When the tables cannot be read.
pub fn task(view: &impl View, id: TaskId, ahead: &Ahead) -> Result<Option<Vec<String>>, Fault> {
    let task: Option<Task> = read_record(view, &Key::Task(id), Kind::Task)?;
    let status: Option<TaskStatus> = read_record(view, &Key::Status(id), Kind::TaskStatus)?;
    let Some((task, status)) = task.zip(status) else {
        return Ok(None);
    };
    let name = task
        .spec
        .name
        .as_ref()
        .map(|name| format!(" {name:?}"))
        .unwrap_or_default();
    let mut lines = vec![format!(
        "Task {id}{name} ({}) is {}.",
        task.spec.schedule,
        status.state.as_str()
    )];
    hindrances(view, &status, &mut lines)?;
    what_comes_next(&status, ahead, &mut lines);
    for number in status.live.iter().take(DESCRIBED_MAX) {
        let number = RunId {
            task: id,
            number: *number,
        };
        lines.extend(run(view, number)?.unwrap_or_default());
    }
    if !status.held.is_empty() {
        let count = status.held.len();
        lines.push(format!("{count} more of its runs wait for those that are alive."));
    }
    history(view, id, &status, &mut lines)?;
    Ok(Some(lines))
}

/// What keeps a task from being fired at all.
fn hindrances(view: &impl View, status: &TaskStatus, lines: &mut Vec<String>) -> Result<(), Fault> {
    if status.state.is_ended() {
        if let Some(reason) = &status.doomed {
            lines.push(format!("It did not run: {reason}."));
        }
        return Ok(());
    }
    let meta: Meta = read_record(view, &Key::Meta, Kind::Meta)?.unwrap_or_default();
    if let Some(message) = &meta.shutdown {
        let why = if message.is_empty() {
            String::new()
        } else {
            format!(" ({message})")
        };
        lines.push(format!(
            "The scheduler is shut down{why}: nothing is fired until `schedcli start`."
        ));
    }
    if status.state == TaskState::Spooled {
        lines.push(format!(
            "It waits in the spool behind {} operations in all.",
            meta.spooled()
        ));
    }
    if let Some(pause) = &status.pause {
        let until = match pause.until {
            Some(until) => format!("until {until}"),
            None => "until `schedcli resume`".to_owned(),
        };
        let note = if pause.note.is_empty() {
            String::new()
        } else {
            format!(": {}", pause.note)
        };
        lines.push(format!("It is paused since {} {until}{note}.", pause.since));
    }
    if !status.waits_for.is_empty() {
        let parents: Vec<String> = status.waits_for.iter().map(TaskId::to_string).collect();
        let on = status.waits_on.as_str();
        lines.push(format!("It waits for the end of {} (on {on}).", parents.join(", ")));
    }
    if let Some(reason) = &status.doomed {
        lines.push(format!("It will not run: {reason}."));
    }
    Ok(())
}

/// When it is due next, and what could come in between.
fn what_comes_next(status: &TaskStatus, ahead: &Ahead, lines: &mut Vec<String>) {
    if status.state.is_ended() {
        return;
    }
    match status.next {
        NextRun::At(at) => lines.push(format!("It is due next at {at}.")),
        NextRun::GaveUp { retry_at, .. } => lines.push(format!(
            "The search for its next time met its bound; it is searched again at {retry_at}."
        )),
        NextRun::Never if status.kind == ScheduleKind::Manual => lines.push("It runs only when it is asked to.".into()),
        NextRun::Never if status.waits_for.is_empty() => lines.push("Its schedule has no further occurrence.".into()),
        NextRun::Never => {}
    }
    calendars(status, ahead, lines);
    let bounds = &status.bounds;
    if let Some(count) = bounds.count {
        lines.push(format!("{} of its {count} occurrences are over.", status.occurrences));
    }
    if let Some(until) = bounds.until {
        lines.push(format!("There is no occurrence after {until}."));
    }
    if let Some(expires) = bounds.expires {
        lines.push(format!("It must start by {expires}."));
    }
    let alive = !status.live.is_empty();
    let overlap = match status.policy.overlap {
        Overlap::Skip => "is skipped",
        Overlap::QueueOne if status.held.is_empty() => "waits for it",
        Overlap::QueueOne => "is skipped, because one waits already",
        Overlap::QueueAll => "waits for it",
        Overlap::Replace => "replaces it",
        Overlap::Allow => return,
    };
    if alive && status.kind == ScheduleKind::Periodic {
        lines.push(format!("An occurrence that comes due while a run is alive {overlap}."));
    }
}

/// What the calendars of the task do to its next occurrence.
fn calendars(status: &TaskStatus, ahead: &Ahead, lines: &mut Vec<String>) {
    let (names, recurs) = (&status.bounds.calendars, status.kind == ScheduleKind::Periodic);
    if names.is_empty() {
        return;
    }
    match &ahead.closed {
        Some((name, until)) if recurs => {
            let open = match ahead.open {
                Some(NextRun::At(at)) => format!("the first that is open is that of {at}"),
                Some(NextRun::Never) => "no later one is open".to_owned(),
                Some(NextRun::GaveUp { .. }) | None => "an open one was not found within the bound".to_owned(),
            };
            lines.push(format!(
                "Calendar {name:?} closes that time until {until}: the occurrence will be skipped; {open}."
            ));
        }
        Some((name, until)) => lines.push(format!(
            "Calendar {name:?} closes that time until {until}: it will be missed, unless the calendar changes or the task is moved."
        )),
        None => lines.push(format!(
            "It does not run in the times that these calendars close: {}.",
            names.join(", ")
        )),
    }
}

/// The newest lines of the ledger.
fn history(view: &impl View, id: TaskId, status: &TaskStatus, lines: &mut Vec<String>) -> Result<(), Fault> {
    let (from, to) = Key::ledger_of(id, 0);
    for (key, value) in view.scan_back(Table::Ledger, &from, &to, DESCRIBED_MAX)? {
        let line: LedgerLine = decode_record(Table::Ledger, &key, Kind::LedgerLine, &value)?;
        lines.push(match line.fact {
            LedgerFact::Missed {
                first,
                count: 1,
                reason,
                ..
            } => format!("The occurrence of {first} did not run: {reason}."),
            LedgerFact::Missed {
                first,
                last,
                count,
                reason,
            } => format!("{count} occurrences from {first} to {last} did not run: {reason}."),
            LedgerFact::Skipped { scheduled_at, reason } => {
                format!("The occurrence of {scheduled_at} was skipped: {reason}.")
            }
            LedgerFact::Closed {
                first,
                count: 1,
                calendar,
                ..
            } => format!("The occurrence of {first} was skipped: calendar {calendar:?} closes that time."),
            LedgerFact::Closed {
                first,
                last,
                count,
                calendar,
            } => format!(
                "{count} occurrences from {first} to {last} were skipped: calendar {calendar:?} closes those times."
            ),
            LedgerFact::StaleReport {
                run, worker, verdict, ..
            } => format!(
                "Worker {worker} reported {verdict} of run {run} after the attempt had been given up: it may have overlapped its successor."
            ),
            LedgerFact::Resolved {
                run,
                resolution,
                principal,
            } if principal.is_empty() => format!("Lost run {run} was resolved as {resolution}."),
            LedgerFact::Resolved {
                run,
                resolution,
                principal,
            } => format!("Lost run {run} was resolved as {resolution} by {principal}."),
            LedgerFact::DrainFailed { reason } => format!("An operation from the spool failed: {reason}."),
        });
    }
    let (finished, failed) = (status.finished, status.failed);
    if finished + failed > 0 {
        lines.push(format!("So far {finished} runs finished and {failed} failed."));
    }
    Ok(())
}

/// Explains a run; nothing when there is none.
///
/// # Errors
/// When the tables cannot be read.
pub fn run(view: &impl View, id: RunId) -> Result<Option<Vec<String>>, Fault> {
    let Some(run) = read_record::<Run>(view, &Key::Run(id), Kind::Run)? else {
        return Ok(None);
    };
    let origin = match run.occurrence {
        Occurrence::Scheduled => "due at",
        Occurrence::Manual(_) => "asked for by hand at",
        Occurrence::Backfill(_) => "asked for in place of",
        Occurrence::CatchUp => "caught up with, due at",
    };
    let state = run.state.as_str();
    let mut lines = vec![format!("Run {id}, {origin} {}, is {state}.", run.scheduled_at)];
    let because = |text: &str| {
        if text.is_empty() {
            String::new()
        } else {
            format!(" ({text})")
        }
    };
    let reason = because(&run.reason);
    match run.state {
        RunState::Ready => lines.push(format!("It waits for a worker{}{reason}.", why_ready(view, &run)?)),
        RunState::Blocked => lines.push(why_blocked(view, &run)?),
        RunState::Delayed { until } => lines.push(format!("It waits until {until}{reason}.")),
        RunState::Held => lines.push("It waits for an earlier run of its task.".to_owned()),
        RunState::Assigned { .. } | RunState::Running { .. } => {
            if let Some(attempt) = run.attempts.last() {
                let (worker, at, number) = (&attempt.worker, attempt.assigned_at, run.attempts_count);
                lines.push(format!("Worker {worker} has it since {at}, attempt {number}."));
            }
            if run.cancelling {
                lines.push(format!("It is being cancelled{reason}."));
            }
        }
        RunState::Lost { hold_until, .. } => {
            lines.push(format!("Nobody knows how it ended{reason}."));
            lines.push(match hold_until {
                Some(until) => format!("Until {until} it keeps its place in overlap and group limits."),
                None => "It no longer keeps its place in overlap and group limits.".to_owned(),
            });
            lines.push("Its worker may still tell; or say it with `schedcli resolve`.".to_owned());
        }
        RunState::Finished | RunState::Failed | RunState::Terminated => ended(&run, &mut lines),
    }
    if run.losses > 0 {
        lines.push(format!("{} workers were lost under it.", run.losses));
    }
    if run.stale_reports > 0 {
        lines.push(format!(
            "{} reports came from attempts that were given up: they may have overlapped their successors.",
            run.stale_reports
        ));
    }
    Ok(Some(lines))
}

fn ended(run: &Run, lines: &mut Vec<String>) {
    let late = run.assigned_at.map(|at| at.millis_since(run.scheduled_at));
    if let (Some(late), Some(attempt)) = (late, run.attempts.last()) {
        lines.push(format!("Worker {} had it, {late} ms after it was due.", attempt.worker));
    } else {
        lines.push("No worker ever had it.".to_owned());
    }
    if !run.reason.is_empty() {
        lines.push(format!("It ended so because: {}.", run.reason));
    }
}

fn why_ready(view: &impl View, run: &Run) -> Result<String, Fault> {
    let (sessions, wanted) = (sessions(view)?, demands(run));
    if sessions.is_empty() {
        return Ok(format!("{wanted}: none is connected"));
    }
    let queue = run.queue.as_deref();
    let may = |session: &Session| serves(&session.queues, queue) && run.placement.allows(&session.labels);
    let mut fit = sessions.iter().filter(|(_, session)| may(session)).peekable();
    if fit.peek().is_none() {
        return Ok(format!("{wanted}: none of {} is one", sessions.len()));
    }
    let (mut all, mut free, mut drained) = (0, 0, Vec::new());
    for (id, session) in fit {
        all += 1;
        if read_record::<Drained>(view, &Key::Drained(&session.worker), Kind::Drained)?.is_some() {
            drained.push(session.worker.as_str());
            continue;
        }
        let (from, to) = Key::running_of(*id);
        let slots = usize::try_from(session.slots).unwrap_or(usize::MAX);
        free += u32::from(!session.closing && view.scan(Table::Running, &from, &to, slots)?.len() < slots);
    }
    Ok(match free {
        0 if drained.len() == all => format!("{wanted}: all {all} are drained ({})", some_of(&drained)),
        0 if !drained.is_empty() => format!(
            "{wanted}: all {all} are busy or leaving, or drained ({})",
            some_of(&drained)
        ),
        0 => format!("{wanted}: all {all} are busy or leaving"),
        free => format!("{wanted}: {free} of {all} have room, one is about to get it"),
    })
}

/// Names the first few.
fn some_of(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let first = names[..names.len() - more].join(", ");
    if more > 0 {
        format!("{first} and {more} more")
    } else {
        first
    }
}

/// Returns what a run demands of a worker, to follow the words "a worker": ` of queue images with gpu=yes`. Empty when any will do.
pub fn demands(run: &Run) -> String {
    let mut text = run
        .queue
        .as_ref()
        .map(|queue| format!(" of queue {queue}"))
        .unwrap_or_default();
    let pair = |(label, value): (&String, &String)| format!("{label}={value}");
    let labels: Vec<String> = run.placement.require.iter().map(pair).collect();
    if !labels.is_empty() {
        text.push_str(&format!(" with {}", labels.join(" ")));
    }
    text
}

fn sessions(view: &impl View) -> Result<Vec<(SessionId, Session)>, Fault> {
    let (from, to) = Key::sessions();
    let mut found = Vec::new();
    for (key, value) in view.scan(Table::Sessions, &from, &to, WORKERS_MAX)? {
        if let Some(id) = decode_session(&key) {
            found.push((id, decode_record(Table::Sessions, &key, Kind::Session, &value)?));
        }
    }
    Ok(found)
}

fn why_blocked(view: &impl View, run: &Run) -> Result<String, Fault> {
    let Some(group) = &run.group else {
        return Ok("It waits for room in its group.".to_owned());
    };
    let key = Key::Group(&run.namespace, &group.name);
    let room: GroupRoom = read_record(view, &key, Kind::GroupRoom)?.unwrap_or_default();
    Ok(format!(
        "It waits for room in group {:?}: ready or under way {}, limit {}, waiting {}.",
        group.name, room.taken, group.limit, room.blocked
    ))
}

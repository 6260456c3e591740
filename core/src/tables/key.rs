//! Keys are built from an enum, never glued: the one place that knows their bytes.

use super::Table;
use crate::ids::{RequestKey, RunId, SessionId, TaskId, Token};
use crate::time::Timestamp;

/// What waits in the table of due times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// A task's next occurrence, or the end of its pause.
    Task(TaskId),
    /// A delayed run.
    Run(RunId),
}

/// Which index of ended runs or tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TaskOutcome {
    /// Finished runs.
    Finished = 1,
    /// Failed and terminated runs.
    Failed = 2,
}

/// The place of a record or of an index entry.
#[derive(Clone, PartialEq, Debug)]
pub enum Key<'a> {
    /// A definition.
    Task(TaskId),
    /// A run-time state.
    Status(TaskId),
    /// A run.
    Run(RunId),
    /// An operation in the spool.
    Spool(u64),
    /// Something with a due time.
    Waiting(Timestamp, Waiting),
    /// A due run, by the part of the list it belongs in (see [`crate::run::Run::class`]); there higher priority first, then older, then by
    /// id.
    Ready(u64, i8, Timestamp, RunId),
    /// A run held by a session.
    Running(SessionId, RunId),
    /// A lost run.
    Lost(RunId),
    /// A run that waits for an earlier one of its task.
    Held(RunId),
    /// An ended run in the finished or failed index, by end time.
    Ended(TaskOutcome, Timestamp, RunId),
    /// An ended run of one task, by outcome and number: retention by count.
    EndedOfTask(TaskId, TaskOutcome, u64),
    /// An ended task, by end time: retention by age.
    EndedTask(Timestamp, TaskId),
    /// A ledger line.
    Ledger(TaskId, u64),
    /// A name.
    Name(&'a str, &'a str),
    /// A label of a task.
    Label(&'a str, &'a str, &'a str, TaskId),
    /// The room taken in a group, by namespace and name.
    Group(&'a str, &'a str),
    /// A run that waits for room in a group, in the order of the ready list.
    Blocked(&'a str, &'a str, i8, Timestamp, RunId),
    /// A task that waits for the end of another: first the one that ends, then the one that waits.
    Dependent(TaskId, TaskId),
    /// A session.
    Session(SessionId),
    /// The newest session of a worker.
    Worker(&'a str),
    /// The session of a worker's journal.
    Journal(u128),
    /// That a worker is drained.
    Drained(&'a str),
    /// A remembered answer.
    Request(&'a RequestKey),
    /// When an answer under a caller's key is dropped.
    CallerKeyExpiry(Timestamp, &'a str, &'a str),
    /// The one record of counters.
    Meta,
    /// The one record of the cluster's settings.
    Config,
    /// A calendar, by namespace and name.
    Calendar(&'a str, &'a str),
    /// How many calendars a namespace has.
    CalendarCount(&'a str),
    /// A task that uses a calendar.
    CalendarUse(&'a str, &'a str, TaskId),
}

/// Order-preserving bytes of a signed number.
fn time(t: Timestamp) -> [u8; 8] {
    ((t.as_millis() as u64) ^ (1 << 63)).to_be_bytes()
}

fn untime(bytes: [u8; 8]) -> Timestamp {
    Timestamp::from_millis((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
}

fn run(out: &mut Vec<u8>, id: RunId) {
    out.extend_from_slice(&id.task.0.to_be_bytes());
    out.extend_from_slice(&id.number.to_be_bytes());
}

fn session(out: &mut Vec<u8>, id: SessionId) {
    out.extend_from_slice(&id.0.index.to_be_bytes());
    out.extend_from_slice(&id.0.position.to_be_bytes());
}

/// Appends text and a terminator. Names are refused at submit when they hold control characters, so no text contains the terminator.
fn text(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(s.as_bytes());
    out.push(0);
}

/// Appends what the ready list is ordered by.
fn order(out: &mut Vec<u8>, priority: i8, due: Timestamp, id: RunId) {
    // Higher priority sorts first: -128..=127 becomes 255..=0.
    out.push((127 - i16::from(priority)) as u8);
    out.extend_from_slice(&time(due));
    run(out, id);
}

fn blocked(out: &mut Vec<u8>, namespace: &str, name: &str) {
    out.push(TAG_BLOCKED);
    text(out, namespace);
    text(out, name);
}

const TAG_RUNNING: u8 = 1;
const TAG_LOST: u8 = 2;
const TAG_HELD: u8 = 3;
const TAG_ENDED: u8 = 1;
const TAG_ENDED_OF_TASK: u8 = 2;
const TAG_ENDED_TASK: u8 = 3;
const TAG_WAITING_TASK: u8 = 1;
const TAG_WAITING_RUN: u8 = 2;
const TAG_GROUP: u8 = 1;
const TAG_BLOCKED: u8 = 2;
const TAG_DEPENDENT: u8 = 3;
const TAG_SESSION: u8 = 1;
const TAG_WORKER: u8 = 2;
const TAG_DRAINED: u8 = 3;
const TAG_JOURNAL: u8 = 4;
const TAG_CLIENT_REQUEST: u8 = 1;
const TAG_CALLER_REQUEST: u8 = 2;
const TAG_CALLER_EXPIRY: u8 = 3;
const TAG_CALENDAR: u8 = 1;
const TAG_CALENDAR_COUNT: u8 = 2;
const TAG_CALENDAR_USE: u8 = 3;

impl Key<'_> {
    /// Returns the table the key belongs to.
    pub fn table(&self) -> Table {
        match self {
            Key::Task(_) => Table::Tasks,
            Key::Status(_) => Table::Status,
            Key::Run(_) => Table::Runs,
            Key::Spool(_) => Table::Spool,
            Key::Waiting(..) => Table::Waiting,
            Key::Ready(..) => Table::Ready,
            Key::Running(..) | Key::Lost(_) | Key::Held(_) => Table::Running,
            Key::Ended(..) | Key::EndedOfTask(..) | Key::EndedTask(..) => Table::Ended,
            Key::Ledger(..) => Table::Ledger,
            Key::Name(..) => Table::Names,
            Key::Label(..) => Table::Labels,
            Key::Group(..) | Key::Blocked(..) | Key::Dependent(..) => Table::Groups,
            Key::Session(_) | Key::Worker(_) | Key::Journal(_) | Key::Drained(_) => Table::Sessions,
            Key::Request(_) | Key::CallerKeyExpiry(..) => Table::Requests,
            Key::Meta | Key::Config => Table::Meta,
            Key::Calendar(..) | Key::CalendarCount(_) | Key::CalendarUse(..) => Table::Calendars,
        }
    }

    /// Returns its bytes; they sort as the enum's documentation says.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        match *self {
            Key::Task(id) | Key::Status(id) => out.extend_from_slice(&id.0.to_be_bytes()),
            Key::Run(id) => run(&mut out, id),
            Key::Spool(seq) => out.extend_from_slice(&seq.to_be_bytes()),
            Key::Waiting(due, what) => {
                out.extend_from_slice(&time(due));
                match what {
                    Waiting::Task(id) => {
                        out.push(TAG_WAITING_TASK);
                        out.extend_from_slice(&id.0.to_be_bytes());
                    }
                    Waiting::Run(id) => {
                        out.push(TAG_WAITING_RUN);
                        run(&mut out, id);
                    }
                }
            }
            Key::Ready(class, priority, due, id) => {
                out.extend_from_slice(&class.to_be_bytes());
                order(&mut out, priority, due, id);
            }
            Key::Running(holder, id) => {
                out.push(TAG_RUNNING);
                session(&mut out, holder);
                run(&mut out, id);
            }
            Key::Lost(id) => {
                out.push(TAG_LOST);
                run(&mut out, id);
            }
            Key::Held(id) => {
                out.push(TAG_HELD);
                run(&mut out, id);
            }
            Key::Ended(outcome, at, id) => {
                out.push(TAG_ENDED);
                out.push(outcome as u8);
                out.extend_from_slice(&time(at));
                run(&mut out, id);
            }
            Key::EndedOfTask(task, outcome, number) => {
                out.push(TAG_ENDED_OF_TASK);
                out.extend_from_slice(&task.0.to_be_bytes());
                out.push(outcome as u8);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Key::EndedTask(at, task) => {
                out.push(TAG_ENDED_TASK);
                out.extend_from_slice(&time(at));
                out.extend_from_slice(&task.0.to_be_bytes());
            }
            Key::Ledger(task, line) => {
                out.extend_from_slice(&task.0.to_be_bytes());
                out.extend_from_slice(&line.to_be_bytes());
            }
            Key::Name(namespace, name) => {
                text(&mut out, namespace);
                text(&mut out, name);
            }
            Key::Label(namespace, label, value, task) => {
                text(&mut out, namespace);
                text(&mut out, label);
                text(&mut out, value);
                out.extend_from_slice(&task.0.to_be_bytes());
            }
            Key::Group(namespace, name) => {
                out.push(TAG_GROUP);
                text(&mut out, namespace);
                text(&mut out, name);
            }
            Key::Blocked(namespace, name, priority, due, id) => {
                blocked(&mut out, namespace, name);
                order(&mut out, priority, due, id);
            }
            Key::Dependent(parent, child) => {
                out.push(TAG_DEPENDENT);
                out.extend_from_slice(&parent.0.to_be_bytes());
                out.extend_from_slice(&child.0.to_be_bytes());
            }
            Key::Session(id) => {
                out.push(TAG_SESSION);
                session(&mut out, id);
            }
            Key::Worker(name) => {
                out.push(TAG_WORKER);
                text(&mut out, name);
            }
            Key::Journal(journal) => {
                out.push(TAG_JOURNAL);
                out.extend_from_slice(&journal.to_be_bytes());
            }
            Key::Drained(worker) => {
                out.push(TAG_DRAINED);
                text(&mut out, worker);
            }
            Key::Request(RequestKey::Client { expires_at, nonce }) => {
                out.push(TAG_CLIENT_REQUEST);
                out.extend_from_slice(&time(*expires_at));
                out.extend_from_slice(&nonce.to_be_bytes());
            }
            Key::Request(RequestKey::Caller { namespace, key }) => {
                out.push(TAG_CALLER_REQUEST);
                text(&mut out, namespace);
                text(&mut out, key);
            }
            Key::CallerKeyExpiry(at, namespace, key) => {
                out.push(TAG_CALLER_EXPIRY);
                out.extend_from_slice(&time(at));
                text(&mut out, namespace);
                text(&mut out, key);
            }
            Key::Meta => out.push(0),
            Key::Config => out.push(1),
            Key::Calendar(namespace, name) => {
                out.push(TAG_CALENDAR);
                text(&mut out, namespace);
                text(&mut out, name);
            }
            Key::CalendarCount(namespace) => {
                out.push(TAG_CALENDAR_COUNT);
                text(&mut out, namespace);
            }
            Key::CalendarUse(namespace, name, task) => {
                out.push(TAG_CALENDAR_USE);
                text(&mut out, namespace);
                text(&mut out, name);
                out.extend_from_slice(&task.0.to_be_bytes());
            }
        }
        out
    }

    /// Returns the range of all entries that are due at or before `until`.
    pub fn waiting_until(until: Timestamp) -> (Vec<u8>, Vec<u8>) {
        (Vec::new(), time(until.plus_millis(1)).to_vec())
    }

    /// Returns the range of all runs of a task, from `first` on.
    pub fn runs_of(task: TaskId, first: u64) -> (Vec<u8>, Vec<u8>) {
        (
            Key::Run(RunId { task, number: first }).encode(),
            (task.0 + 1).to_be_bytes().to_vec(),
        )
    }

    /// Returns the range of all runs held by a session.
    pub fn running_of(id: SessionId) -> (Vec<u8>, Vec<u8>) {
        let mut from = vec![TAG_RUNNING];
        session(&mut from, id);
        let mut to = vec![TAG_RUNNING];
        session(
            &mut to,
            SessionId(Token {
                index: id.0.index,
                position: id.0.position + 1,
            }),
        );
        (from, to)
    }

    /// Returns the range of all workers that are drained.
    pub fn drained_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_DRAINED], vec![TAG_DRAINED + 1])
    }

    /// Returns the range of all runs held by any session.
    pub fn running_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_RUNNING], vec![TAG_RUNNING + 1])
    }

    /// Returns the range of all lost runs.
    pub fn lost_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_LOST], vec![TAG_LOST + 1])
    }

    /// Returns the range of all runs that wait for an earlier one of their task.
    pub fn held_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_HELD], vec![TAG_HELD + 1])
    }

    /// Returns the range of all runs that wait for room in a group.
    pub fn blocked_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_BLOCKED], vec![TAG_BLOCKED + 1])
    }

    /// Returns the range of the finished or failed index that ended at or before `until`.
    pub fn ended_until(outcome: TaskOutcome, until: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let mut to = vec![TAG_ENDED, outcome as u8];
        to.extend_from_slice(&time(until.plus_millis(1)));
        (vec![TAG_ENDED, outcome as u8], to)
    }

    /// Returns the range of the ended runs of one task with one outcome.
    pub fn ended_of_task(task: TaskId, outcome: TaskOutcome) -> (Vec<u8>, Vec<u8>) {
        let mut from = vec![TAG_ENDED_OF_TASK];
        from.extend_from_slice(&task.0.to_be_bytes());
        let mut to = from.clone();
        from.push(outcome as u8);
        to.push(outcome as u8 + 1);
        (from, to)
    }

    /// Returns the range of the tasks that ended at or before `until`.
    pub fn ended_tasks_until(until: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let mut to = vec![TAG_ENDED_TASK];
        to.extend_from_slice(&time(until.plus_millis(1)));
        (vec![TAG_ENDED_TASK], to)
    }

    /// Returns the range of a task's ledger lines from number `first` on.
    pub fn ledger_of(task: TaskId, first: u64) -> (Vec<u8>, Vec<u8>) {
        (Key::Ledger(task, first).encode(), (task.0 + 1).to_be_bytes().to_vec())
    }

    /// Returns the range of the tasks with a label, from task `first` on.
    pub fn label(namespace: &str, label: &str, value: &str, first: TaskId) -> (Vec<u8>, Vec<u8>) {
        (
            Key::Label(namespace, label, value, first).encode(),
            Key::Label(namespace, label, value, TaskId(u64::MAX)).encode(),
        )
    }

    /// Returns the range of one part of the ready list.
    pub fn ready_of(class: u64) -> (Vec<u8>, Vec<u8>) {
        let to = match class.checked_add(1) {
            Some(next) => next.to_be_bytes().to_vec(),
            None => vec![0xff; 9],
        };
        (class.to_be_bytes().to_vec(), to)
    }

    /// Returns the range of all runs that wait for room in a group.
    pub fn blocked_of(namespace: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
        let mut from = Vec::with_capacity(64);
        blocked(&mut from, namespace, name);
        let mut to = from.clone();
        // The prefix ends with a terminator, 0: what begins with it lies before the same prefix with 1.
        to.pop();
        to.push(1);
        (from, to)
    }

    /// Whether a key is that of a run that waits for room.
    pub fn is_blocked(key: &[u8]) -> bool {
        key.first() == Some(&TAG_BLOCKED)
    }

    /// Returns the range of all tasks that wait for the end of a task.
    pub fn dependents_of(parent: TaskId) -> (Vec<u8>, Vec<u8>) {
        let mut to = vec![TAG_DEPENDENT];
        to.extend_from_slice(&(parent.0 + 1).to_be_bytes());
        (Key::Dependent(parent, TaskId(0)).encode(), to)
    }

    /// Returns the range of all tasks that wait for others.
    pub fn dependents_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_DEPENDENT], vec![TAG_DEPENDENT + 1])
    }

    /// Returns the range of the room taken in all groups.
    pub fn groups() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_GROUP], vec![TAG_GROUP + 1])
    }

    /// Returns the range of a namespace's calendars.
    pub fn calendars_of(namespace: &str) -> (Vec<u8>, Vec<u8>) {
        let mut from = vec![TAG_CALENDAR];
        text(&mut from, namespace);
        let mut to = from.clone();
        // The prefix ends with a terminator, 0: what begins with it lies before the same prefix with 1.
        to.pop();
        to.push(1);
        (from, to)
    }

    /// Returns the range of all calendars.
    pub fn calendars_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_CALENDAR], vec![TAG_CALENDAR + 1])
    }

    /// Returns the range of what namespaces count of their calendars.
    pub fn calendar_counts() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_CALENDAR_COUNT], vec![TAG_CALENDAR_COUNT + 1])
    }

    /// Returns the range of the tasks that use a calendar.
    pub fn calendar_uses(namespace: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
        let from = Key::CalendarUse(namespace, name, TaskId(0)).encode();
        let to = Key::CalendarUse(namespace, name, TaskId(u64::MAX)).encode();
        (from, to)
    }

    /// Returns the range of all uses of calendars.
    pub fn calendar_uses_all() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_CALENDAR_USE], vec![TAG_CALENDAR_USE + 1])
    }

    /// Returns the range of all sessions.
    pub fn sessions() -> (Vec<u8>, Vec<u8>) {
        (vec![TAG_SESSION], vec![TAG_SESSION + 1])
    }

    /// Returns the range of answers to the client library's requests that expired at or before `until`.
    pub fn client_requests_until(until: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let mut to = vec![TAG_CLIENT_REQUEST];
        to.extend_from_slice(&time(until.plus_millis(1)));
        (vec![TAG_CLIENT_REQUEST], to)
    }

    /// Returns the range of expiries of callers' keys at or before `until`.
    pub fn caller_expiries_until(until: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let mut to = vec![TAG_CALLER_EXPIRY];
        to.extend_from_slice(&time(until.plus_millis(1)));
        (vec![TAG_CALLER_EXPIRY], to)
    }

    /// Returns the key under which the answer of an expiry entry lies; the two differ in the time they carry.
    pub fn caller_request_of_expiry(expiry: &[u8]) -> Option<Vec<u8>> {
        let names = expiry.get(9..)?;
        let mut key = vec![TAG_CALLER_REQUEST];
        key.extend_from_slice(names);
        Some(key)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn run_at(bytes: &[u8], at: usize) -> Option<RunId> {
    Some(RunId {
        task: TaskId(u64_at(bytes, at)?),
        number: u64_at(bytes, at + 8)?,
    })
}

fn time_at(bytes: &[u8], at: usize) -> Option<Timestamp> {
    Some(untime(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Reads a key that is one number.
pub fn decode_u64(key: &[u8]) -> Option<u64> {
    if key.len() == 8 { u64_at(key, 0) } else { None }
}

/// Reads the key of a definition or a run-time state.
pub fn decode_task(key: &[u8]) -> Option<TaskId> {
    decode_u64(key).map(TaskId)
}

/// Reads the key of a run, or the run at the end of a longer key (`Running`, `Lost`).
pub fn decode_run(key: &[u8]) -> Option<RunId> {
    run_at(key, key.len().checked_sub(16)?)
}

/// Reads a key of the waiting queue.
pub fn decode_waiting(key: &[u8]) -> Option<(Timestamp, Waiting)> {
    let due = time_at(key, 0)?;
    let what = match (key.get(8)?, key.len()) {
        (&TAG_WAITING_TASK, 17) => Waiting::Task(TaskId(u64_at(key, 9)?)),
        (&TAG_WAITING_RUN, 25) => Waiting::Run(run_at(key, 9)?),
        _ => return None,
    };
    Some((due, what))
}

/// Reads a key of the ready list: its part, then what it is ordered by.
pub fn decode_ready(key: &[u8]) -> Option<(u64, i8, Timestamp, RunId)> {
    if key.len() != 33 {
        return None;
    }
    let priority = (127 - i16::from(key[8])) as i8;
    Some((u64_at(key, 0)?, priority, time_at(key, 9)?, run_at(key, 17)?))
}

/// Reads the end time and the run of a key of the finished or failed index.
pub fn decode_ended(key: &[u8]) -> Option<(Timestamp, RunId)> {
    if key.len() != 26 {
        return None;
    }
    Some((time_at(key, 2)?, run_at(key, 10)?))
}

/// Reads the task at the end of a key (`Label`, `EndedTask`, `Dependent`).
pub fn decode_label_task(key: &[u8]) -> Option<TaskId> {
    Some(TaskId(u64_at(key, key.len().checked_sub(8)?)?))
}

/// Reads the namespace and the name of the key of a calendar.
pub fn decode_calendar(key: &[u8]) -> Option<(&str, &str)> {
    let rest = key.strip_prefix(&[TAG_CALENDAR])?;
    let (namespace, name) = std::str::from_utf8(rest).ok()?.strip_suffix('\0')?.split_once('\0')?;
    Some((namespace, name))
}

/// Reads the key of a session.
pub fn decode_session(key: &[u8]) -> Option<SessionId> {
    if key.len() != 13 || key[0] != TAG_SESSION {
        return None;
    }
    let position = u32::from_be_bytes(key.get(9..13)?.try_into().ok()?);
    Some(SessionId(Token {
        index: u64_at(key, 1)?,
        position,
    }))
}

#[cfg(test)]
mod tests;

//! Lists, in pages. A page reads a bounded number of records, whatever the filters leave of them.

use super::errors;
use super::reads::{barrier, progress, resolve};
use crate::shared::{OrStop, Shared, aside};
use crate::state::{self, END, run_in};
use sched_core::Fault;
use sched_core::ids::{RunId, TaskId};
use sched_core::run::Run;
use sched_core::tables::{
    Key, Table, TaskOutcome, View, Waiting, decode_ended, decode_label_task, decode_task, decode_waiting,
};
use sched_core::task::{Task, TaskState};
use sched_proto::convert::{from_wire, to_wire};
use sched_proto::limits::{CURSOR_BYTES_MAX, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};
use sched_proto::v1::{
    self, ListRunsReply, ListRunsRequest, ListTasksReply, ListTasksRequest, RunState, ShowSpoolReply, ShowSpoolRequest,
};
use std::collections::{BTreeMap, HashMap};
use tonic::Status;

/// Records one page reads, whatever is filtered out.
const READ_MAX: usize = 4 * PAGE_ITEMS_MAX as usize;
/// Bytes of one page: records with large payloads make short pages.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) fn page_size(limit: u32) -> Result<usize, Status> {
    match limit {
        0 => Ok(PAGE_ITEMS_DEFAULT as usize),
        n if n <= PAGE_ITEMS_MAX => Ok(n as usize),
        n => Err(errors::invalid(
            "limit",
            format!("{n}; expected at most {PAGE_ITEMS_MAX}"),
        )),
    }
}

fn bad_cursor() -> Status {
    errors::invalid("cursor", "is none that this call has given; begin without one")
}

fn cursor_number(cursor: &str) -> Result<Option<u64>, Status> {
    match cursor {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| bad_cursor()),
    }
}

/// A page that is being filled.
struct Page<T> {
    items: Vec<T>,
    bytes: usize,
    limit: usize,
    read: usize,
}

impl<T: prost::Message> Page<T> {
    fn new(limit: usize) -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            limit,
            read: 0,
        }
    }

    fn push(&mut self, item: T) {
        self.bytes += item.encoded_len();
        self.items.push(item);
    }

    /// Whether the page ends before the next record.
    fn is_full(&self) -> bool {
        self.items.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX || self.read >= READ_MAX
    }
}

// ---- tasks ----

struct TaskFilter {
    namespace: Option<String>,
    states: Vec<TaskState>,
    labels: BTreeMap<String, String>,
}

impl TaskFilter {
    fn takes(&self, task: &Task, state: TaskState) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == task.spec.namespace)
            && (self.states.is_empty() || self.states.contains(&state))
            && self
                .labels
                .iter()
                .all(|(label, value)| task.spec.labels.get(label) == Some(value))
    }
}

pub(super) async fn tasks(shared: &Shared, call: ListTasksRequest) -> Result<ListTasksReply, Status> {
    let limit = page_size(call.limit)?;
    let first = cursor_number(&call.cursor)?.unwrap_or(0);
    let states = call
        .states
        .into_iter()
        .map(from_wire::task_state)
        .collect::<Result<_, _>>();
    let filter = TaskFilter {
        namespace: call.namespace.filter(|namespace| !namespace.is_empty()),
        states: states.map_err(|e| errors::rejected(&e))?,
        labels: call.labels.into_iter().collect(),
    };
    barrier(shared).await?;
    let view = shared.replica.view();
    aside(move || tasks_page(&view, &filter, first, limit).or_stop()).await
}

fn tasks_page(view: &impl View, filter: &TaskFilter, first: u64, limit: usize) -> Result<ListTasksReply, Fault> {
    let mut page = Page::new(limit);
    let mut next = first;
    let mut cursor = String::new();
    'pages: loop {
        let ids = task_ids(view, filter, TaskId(next), limit + 1)?;
        let all = ids.len() <= limit;
        for id in ids {
            if page.is_full() {
                cursor = id.0.to_string();
                break 'pages;
            }
            next = id.0 + 1;
            page.read += 1;
            let (Some(status), Some(task)) = (state::status(view, id)?, state::task(view, id)?) else {
                continue;
            };
            if filter.takes(&task, status.state) {
                page.push(to_wire::task(id, &task, &status));
            }
        }
        if all {
            break;
        }
    }
    Ok(ListTasksReply {
        tasks: page.items,
        cursor,
    })
}

/// The next candidates: from the index of a label when there is one to ask for, else every task.
fn task_ids(view: &impl View, filter: &TaskFilter, first: TaskId, limit: usize) -> Result<Vec<TaskId>, Fault> {
    let damaged = || Fault::Inconsistent("key of a task".into());
    if let (Some(namespace), Some((label, value))) = (&filter.namespace, filter.labels.iter().next()) {
        let (from, to) = Key::label(namespace, label, value, first);
        let pairs = view.scan(Table::Labels, &from, &to, limit)?;
        return pairs
            .iter()
            .map(|(key, _)| decode_label_task(key).ok_or_else(damaged))
            .collect();
    }
    let pairs = view.scan(Table::Status, &Key::Status(first).encode(), &END, limit)?;
    pairs
        .iter()
        .map(|(key, _)| decode_task(key).ok_or_else(damaged))
        .collect()
}

// ---- runs ----

/// Where runs of every task are read from, one index after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Ready,
    Delayed,
    Held,
    Blocked,
    Running,
    Lost,
    Failed,
    Finished,
}

impl Source {
    const ALL: [(Source, char); 8] = [
        (Source::Ready, 'r'),
        (Source::Delayed, 'd'),
        (Source::Held, 'h'),
        (Source::Blocked, 'g'),
        (Source::Running, 'a'),
        (Source::Lost, 'l'),
        (Source::Failed, 'x'),
        (Source::Finished, 'f'),
    ];

    fn letter(self) -> char {
        Self::ALL
            .iter()
            .find(|(source, _)| *source == self)
            .map_or('?', |(_, letter)| *letter)
    }

    fn holds(self, state: RunState) -> bool {
        match self {
            Source::Ready | Source::Delayed | Source::Held | Source::Blocked => state == RunState::Pending,
            Source::Running => matches!(state, RunState::Assigned | RunState::Running),
            Source::Lost => state == RunState::Lost,
            Source::Failed => matches!(state, RunState::Failed | RunState::Terminated),
            Source::Finished => state == RunState::Finished,
        }
    }

    fn range(self) -> (Table, Vec<u8>, Vec<u8>) {
        let (table, (from, to)) = match self {
            Source::Ready => (Table::Ready, (Vec::new(), END.to_vec())),
            Source::Delayed => (Table::Waiting, (Vec::new(), END.to_vec())),
            Source::Held => (Table::Running, Key::held_all()),
            Source::Blocked => (Table::Groups, Key::blocked_all()),
            Source::Running => (Table::Running, Key::running_all()),
            Source::Lost => (Table::Running, Key::lost_all()),
            Source::Failed => (
                Table::Ended,
                Key::ended_until(TaskOutcome::Failed, sched_core::Timestamp::MAX),
            ),
            Source::Finished => (
                Table::Ended,
                Key::ended_until(TaskOutcome::Finished, sched_core::Timestamp::MAX),
            ),
        };
        (table, from, to)
    }
}

pub(super) async fn runs(shared: &Shared, call: ListRunsRequest) -> Result<ListRunsReply, Status> {
    let limit = page_size(call.limit)?;
    let mut states = Vec::new();
    for number in call.states {
        match RunState::try_from(number) {
            Ok(state) if state != RunState::Unspecified => states.push(state),
            _ => return Err(errors::invalid("states", format!("{number} is no state of a run"))),
        }
    }
    let task = call
        .task
        .map(|task| from_wire::task_ref(Some(task)).map_err(|e| errors::rejected(&e)))
        .transpose()?;
    if call.cursor.len() > CURSOR_BYTES_MAX {
        return Err(bad_cursor());
    }
    barrier(shared).await?;
    let view = shared.replica.view();
    let term = shared.terms.current();
    let on_wire = move |run: &Run, name: Option<&str>| v1::Run {
        progress: progress(term.as_deref(), run),
        ..to_wire::run(run, name)
    };
    match task {
        Some(task) => {
            let id = resolve(&view, &task)?;
            let below = cursor_number(&call.cursor)?.unwrap_or(u64::MAX);
            aside(move || runs_of_task(&view, id, &states, below, limit, on_wire).or_stop()).await
        }
        None => {
            let start = Position::parse(&call.cursor)?;
            aside(move || runs_of_all(&view, &states, start, limit, on_wire).or_stop()).await
        }
    }
}

fn takes(states: &[RunState], run: &Run) -> bool {
    states.is_empty() || states.contains(&to_wire::run_state(run.state))
}

/// Runs of one task, from below a number downwards.
fn runs_of_task(
    view: &impl View,
    task: TaskId,
    states: &[RunState],
    below: u64,
    limit: usize,
    on_wire: impl Fn(&Run, Option<&str>) -> v1::Run,
) -> Result<ListRunsReply, Fault> {
    let name = state::task(view, task)?.and_then(|task| task.spec.name);
    let mut page = Page::new(limit);
    let (mut below, mut cursor) = (below, String::new());
    let (from, _) = Key::runs_of(task, 0);
    'pages: loop {
        let to = Key::Run(RunId { task, number: below }).encode();
        let pairs = view.scan_back(Table::Runs, &from, &to, limit + 1)?;
        let all = pairs.len() <= limit;
        for (key, _) in pairs {
            if page.is_full() {
                cursor = below.to_string();
                break 'pages;
            }
            let id = run_in(&key)?;
            below = id.number;
            page.read += 1;
            if let Some(run) = state::run(view, id)?.filter(|run| takes(states, run)) {
                page.push(on_wire(&run, name.as_deref()));
            }
        }
        if all {
            break;
        }
    }
    Ok(ListRunsReply {
        runs: page.items,
        cursor,
    })
}

/// Where a page over all tasks goes on: below a key of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Position {
    source: usize,
    below: Vec<u8>,
}

impl Position {
    fn parse(cursor: &str) -> Result<Option<Self>, Status> {
        let mut letters = cursor.chars();
        let Some(letter) = letters.next() else { return Ok(None) };
        let source = Source::ALL
            .iter()
            .position(|(_, known)| *known == letter)
            .ok_or_else(bad_cursor)?;
        let hex = letters.as_str().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let below: Option<Vec<u8>> = hex
            .chunks(2)
            .map(|pair| if pair.len() == 2 { byte(pair) } else { None })
            .collect();
        Ok(Some(Self {
            source,
            below: below.ok_or_else(bad_cursor)?,
        }))
    }

    fn text(&self) -> String {
        let (source, _) = Source::ALL[self.source];
        let mut text = String::from(source.letter());
        text.extend(self.below.iter().map(|byte| format!("{byte:02x}")));
        text
    }
}

/// Runs of all tasks: each index from its end downwards, so that what ended last comes first.
fn runs_of_all(
    view: &impl View,
    states: &[RunState],
    start: Option<Position>,
    limit: usize,
    on_wire: impl Fn(&Run, Option<&str>) -> v1::Run,
) -> Result<ListRunsReply, Fault> {
    let mut names: HashMap<TaskId, Option<String>> = HashMap::new();
    let mut page = Page::new(limit);
    let (first, mut resume) = match start {
        Some(position) => (position.source, Some(position.below)),
        None => (0, None),
    };
    for (number, (source, _)) in Source::ALL.into_iter().enumerate().skip(first) {
        let below = resume.take();
        if !states.is_empty() && !states.iter().any(|state| source.holds(*state)) {
            continue;
        }
        let (table, from, end) = source.range();
        let mut to = below.filter(|below| !below.is_empty()).unwrap_or(end);
        loop {
            let pairs = view.scan_back(table, &from, &to, limit + 1)?;
            let all = pairs.len() <= limit;
            for (key, _) in pairs {
                if page.is_full() {
                    let cursor = Position {
                        source: number,
                        below: to,
                    }
                    .text();
                    return Ok(ListRunsReply {
                        runs: page.items,
                        cursor,
                    });
                }
                page.read += 1;
                if let Some(id) = run_of_key(source, &key)?
                    && let Some(run) = state::run(view, id)?.filter(|run| takes(states, run))
                {
                    page.push(on_wire(&run, name_of(view, &mut names, id.task)?.as_deref()));
                }
                to = key;
            }
            if all {
                break;
            }
        }
        if page.is_full() && number + 1 < Source::ALL.len() {
            let cursor = Position {
                source: number + 1,
                below: Vec::new(),
            }
            .text();
            return Ok(ListRunsReply {
                runs: page.items,
                cursor,
            });
        }
    }
    Ok(ListRunsReply {
        runs: page.items,
        cursor: String::new(),
    })
}

/// The run an index entry is about; the waiting queue holds tasks too.
fn run_of_key(source: Source, key: &[u8]) -> Result<Option<RunId>, Fault> {
    match source {
        Source::Delayed => Ok(match decode_waiting(key) {
            Some((_, Waiting::Run(run))) => Some(run),
            _ => None,
        }),
        Source::Failed | Source::Finished => Ok(decode_ended(key).map(|(_, run)| run)),
        Source::Ready | Source::Held | Source::Blocked | Source::Running | Source::Lost => run_in(key).map(Some),
    }
}

fn name_of(view: &impl View, names: &mut HashMap<TaskId, Option<String>>, id: TaskId) -> Result<Option<String>, Fault> {
    if let Some(name) = names.get(&id) {
        return Ok(name.clone());
    }
    let name = state::task(view, id)?.and_then(|task| task.spec.name);
    names.insert(id, name.clone());
    Ok(name)
}

// ---- spool ----

pub(super) async fn spool(shared: &Shared, call: ShowSpoolRequest) -> Result<ShowSpoolReply, Status> {
    let limit = page_size(call.limit)?;
    let first = cursor_number(&call.cursor)?.unwrap_or(0);
    barrier(shared).await?;
    let view = shared.replica.view();
    aside(move || spool_page(&view, first, limit).or_stop()).await
}

fn spool_page(view: &impl View, first: u64, limit: usize) -> Result<ShowSpoolReply, Fault> {
    let meta = state::meta(view)?;
    let mut page: Page<v1::SpoolOp> = Page::new(limit);
    for seq in first.max(meta.spool_head)..meta.spool_tail {
        if page.is_full() {
            return Ok(ShowSpoolReply {
                ops: page.items,
                cursor: seq.to_string(),
            });
        }
        page.read += 1;
        let Some(op) = state::spool_op(view, seq)? else {
            continue;
        };
        let name = state::task(view, op.action.task())?.and_then(|task| task.spec.name);
        page.push(to_wire::spool_op(seq, &op, name.as_deref()));
    }
    Ok(ShowSpoolReply {
        ops: page.items,
        cursor: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_garbage_is_refused() {
        let position = Position {
            source: 5,
            below: vec![0, 255, 7],
        };
        assert_eq!(Position::parse(&position.text()).unwrap(), Some(position));
        assert_eq!(Position::parse("").unwrap(), None);
        for bad in ["z00", "f0", "fzz", "f0é", "\u{1F600}"] {
            assert!(Position::parse(bad).is_err(), "{bad}");
        }
        assert!(cursor_number("12").unwrap() == Some(12) && cursor_number("-1").is_err());
        assert!(page_size(1001).is_err() && page_size(0).unwrap() == 100);
    }
}

//! Every invariant of the state, one function each. Reads all of it: for tests, the simulation and an operator's check.

use crate::apply::{decode_record, index_of_run, index_of_task};
use crate::calendar::{Calendar, used_by};
use crate::codec::Kind;
use crate::command::{Fault, SpoolOp};
use crate::ids::{RunId, TaskId};
use crate::run::{Run, RunState};
use crate::session::Session;
use crate::tables::{
    Change, GroupRoom, Key, Meta, Table, View, decode_calendar, decode_run, decode_session, decode_task, decode_u64,
};
use crate::task::{NextRun, Task, TaskState, TaskStatus};
use std::collections::{BTreeMap, BTreeSet};

/// All records of a state, decoded.
#[derive(Clone, PartialEq, Default)]
struct State {
    meta: Meta,
    tasks: BTreeMap<TaskId, Task>,
    statuses: BTreeMap<TaskId, TaskStatus>,
    runs: BTreeMap<RunId, Run>,
    spool: BTreeMap<u64, SpoolOp>,
    sessions: BTreeMap<crate::ids::SessionId, Session>,
    groups: BTreeMap<Vec<u8>, GroupRoom>,
    /// By namespace and name.
    calendars: BTreeSet<(String, String)>,
    calendar_counts: BTreeMap<Vec<u8>, u64>,
    indexes: BTreeMap<Table, BTreeSet<Vec<u8>>>,
}

/// Returns what contradicts an invariant, in words; empty when the state is sound.
///
/// # Errors
/// When the tables cannot be read or a record does not decode.
pub fn check(view: &impl View) -> Result<Vec<String>, Fault> {
    Ok(Checker::read(view)?.findings())
}

/// Checks one state after the other, and reads only what has changed in between.
#[derive(Clone, PartialEq, Default)]
pub struct Checker(State);

impl Checker {
    /// Reads a state.
    ///
    /// # Errors
    /// When the tables cannot be read or a record does not decode.
    pub fn read(view: &impl View) -> Result<Self, Fault> {
        State::read(view).map(Self)
    }

    /// Goes on to the state after a change. `before` is the one it is written to: a range that is deleted is looked up there.
    ///
    /// # Errors
    /// When the tables cannot be read or a record does not decode.
    pub fn take(&mut self, before: &impl View, change: &Change) -> Result<(), Fault> {
        match change {
            Change::Put { table, key, value } => self.0.put(*table, key, value),
            Change::Delete { table, key } => self.0.delete(*table, key),
            Change::DeleteRange { table, from, to } => {
                let gone = before.scan(*table, from, to, usize::MAX)?;
                gone.iter().try_for_each(|(key, _)| self.0.delete(*table, key))
            }
        }
    }

    /// Returns what contradicts an invariant, in words; empty when the state is sound.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for invariant in INVARIANTS {
            invariant(&self.0, &mut findings);
        }
        findings
    }
}

type Invariant = fn(&State, &mut Vec<String>);

const INVARIANTS: [Invariant; 13] = [
    every_record_is_in_its_index,
    every_index_entry_has_its_record,
    counters_count_records,
    live_and_held_runs_are_exactly_those_not_ended,
    lost_runs_are_listed,
    held_runs_wait_for_a_live_one,
    task_states_fit_their_runs,
    running_runs_have_a_live_session,
    spool_is_without_gaps,
    names_belong_to_one_task,
    groups_count_their_runs,
    tasks_that_wait_are_listed,
    calendars_are_counted_and_list_their_tasks,
];

/// A task or run is listed exactly where its record says.
fn every_record_is_in_its_index(state: &State, findings: &mut Vec<String>) {
    let mut expect = |key: Key<'_>, what: String| {
        if !state.has(&key) {
            findings.push(format!("{what} is missing from table {}", key.table().name()));
        }
    };
    for (id, status) in &state.statuses {
        if let Some(key) = index_of_task(*id, status) {
            expect(key, format!("task {id}"));
        }
    }
    for (id, run) in &state.runs {
        for key in index_of_run(run).into_iter().flatten() {
            expect(key, format!("run {id}"));
        }
    }
    for (id, task) in &state.tasks {
        for (label, value) in &task.spec.labels {
            expect(
                Key::Label(&task.spec.namespace, label, value, *id),
                format!("label {label} of task {id}"),
            );
        }
    }
}

/// No index lists what its record does not claim.
fn every_index_entry_has_its_record(state: &State, findings: &mut Vec<String>) {
    let mut expected: BTreeMap<Table, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let tasks = state
        .statuses
        .iter()
        .filter_map(|(id, status)| index_of_task(*id, status));
    let runs = state
        .runs
        .values()
        .flat_map(|run| index_of_run(run).into_iter().flatten());
    for key in tasks.chain(runs) {
        expected.entry(key.table()).or_default().insert(key.encode());
    }
    for table in [
        Table::Waiting,
        Table::Ready,
        Table::Running,
        Table::Ended,
        Table::Groups,
    ] {
        let empty = BTreeSet::new();
        let claimed = expected.get(&table).unwrap_or(&empty);
        for key in state.index(table).difference(claimed) {
            // What else is in this table has an invariant of its own.
            if table == Table::Groups && !Key::is_blocked(key) {
                continue;
            }
            findings.push(format!(
                "table {} lists {key:02x?}, which no record claims",
                table.name()
            ));
        }
    }
}

/// The counters that `status` shows are the numbers of records.
fn counters_count_records(state: &State, findings: &mut Vec<String>) {
    let runs = |wanted: fn(&RunState) -> bool| state.runs.values().filter(|run| wanted(&run.state)).count() as u64;
    let waiting = state
        .statuses
        .iter()
        .filter(|(id, status)| matches!(index_of_task(**id, status), Some(Key::Waiting(..))))
        .count() as u64;
    let ended = state
        .statuses
        .iter()
        .filter(|(id, status)| matches!(index_of_task(**id, status), Some(Key::EndedTask(..))))
        .count() as u64;
    let meta = &state.meta;
    let counts = [
        ("ended tasks", meta.ended_tasks, ended),
        ("tasks", meta.tasks, state.statuses.len() as u64),
        ("waiting", meta.waiting, waiting),
        ("ready", meta.ready, runs(|s| matches!(s, RunState::Ready))),
        (
            "delayed",
            meta.delayed,
            runs(|s| matches!(s, RunState::Delayed { .. } | RunState::Held | RunState::Blocked)),
        ),
        ("running", meta.running, runs(|s| s.holder().is_some())),
        ("lost", meta.lost, runs(|s| matches!(s, RunState::Lost { .. }))),
        ("finished", meta.finished, runs(|s| matches!(s, RunState::Finished))),
        (
            "failed",
            meta.failed,
            runs(|s| matches!(s, RunState::Failed | RunState::Terminated)),
        ),
        ("spooled", meta.spooled(), state.spool.len() as u64),
    ];
    for (name, counted, actual) in counts {
        if counted != actual {
            findings.push(format!("counter {name} is {counted}, the tables hold {actual}"));
        }
    }
    for (id, status) in &state.statuses {
        let of_task = |wanted: fn(&RunState) -> bool| {
            let range = RunId { task: *id, number: 0 }..=RunId {
                task: *id,
                number: u64::MAX,
            };
            state.runs.range(range).filter(|(_, run)| wanted(&run.state)).count() as u32
        };
        let finished = of_task(|s| matches!(s, RunState::Finished));
        let failed = of_task(|s| matches!(s, RunState::Failed | RunState::Terminated));
        if (finished, failed) != (status.finished_kept, status.failed_kept) {
            findings.push(format!(
                "task {id} counts {}+{} ended runs, the table holds {finished}+{failed}",
                status.finished_kept, status.failed_kept
            ));
        }
    }
}

/// A run that has not ended is in exactly one of its task's two lists; one that has is in neither, nor is a lost one that has given up its
/// place.
fn live_and_held_runs_are_exactly_those_not_ended(state: &State, findings: &mut Vec<String>) {
    let mut listed: BTreeMap<RunId, bool> = BTreeMap::new();
    for (id, status) in &state.statuses {
        let lists = status
            .live
            .iter()
            .map(|n| (*n, false))
            .chain(status.held.iter().map(|n| (*n, true)));
        for (number, held) in lists {
            if listed.insert(RunId { task: *id, number }, held).is_some() {
                findings.push(format!("run {id}:{number} is listed twice by its task"));
            }
        }
    }
    for (id, run) in &state.runs {
        let expected = match run.state {
            state if state.is_terminal() => None,
            RunState::Held => Some(true),
            RunState::Lost { hold_until: None, .. } => None,
            _ => Some(false),
        };
        if listed.remove(id) != expected {
            findings.push(format!(
                "run {id} is {} but its task does not list it so",
                run.state.as_str()
            ));
        }
    }
    for id in listed.keys() {
        findings.push(format!("run {id} is listed by its task but has no record"));
    }
}

/// A task lists exactly those of its runs as lost that are.
fn lost_runs_are_listed(state: &State, findings: &mut Vec<String>) {
    let mut lost: BTreeMap<TaskId, Vec<u64>> = BTreeMap::new();
    for (id, run) in &state.runs {
        if matches!(run.state, RunState::Lost { .. }) {
            lost.entry(id.task).or_default().push(id.number);
        }
    }
    for (id, status) in &state.statuses {
        let actual = lost.remove(id).unwrap_or_default();
        if status.lost != actual {
            findings.push(format!(
                "task {id} lists {:?} as lost, which are {actual:?}",
                status.lost
            ));
        }
    }
}

/// Nothing waits for nothing: a held run has a live one before it.
fn held_runs_wait_for_a_live_one(state: &State, findings: &mut Vec<String>) {
    for (id, status) in &state.statuses {
        if !status.held.is_empty() && status.live.is_empty() {
            findings.push(format!("task {id} holds runs {:?} back with no run alive", status.held));
        }
    }
}

/// A task is RUNNING exactly while a run of it is alive; an ended one has the time it ended at.
fn task_states_fit_their_runs(state: &State, findings: &mut Vec<String>) {
    for (id, status) in &state.statuses {
        let alive = status.is_busy();
        let fits = match status.state {
            TaskState::Running => alive,
            TaskState::Terminated => true,
            TaskState::Queued | TaskState::Spooled | TaskState::Failed | TaskState::Finished => !alive,
        };
        if !fits {
            findings.push(format!(
                "task {id} is {} with live runs {:?}",
                status.state.as_str(),
                status.live
            ));
        }
        if status.state.is_ended() != status.ended_at.is_some() {
            findings.push(format!(
                "task {id} is {} and ended at {:?}",
                status.state.as_str(),
                status.ended_at
            ));
        }
        if !state.tasks.contains_key(id) {
            findings.push(format!("task {id} has a state but no definition"));
        }
    }
    for id in state.tasks.keys().filter(|id| !state.statuses.contains_key(id)) {
        findings.push(format!("task {id} has a definition but no state"));
    }
}

/// A run is held by a session that exists, so that its lease can end it.
fn running_runs_have_a_live_session(state: &State, findings: &mut Vec<String>) {
    for (id, run) in &state.runs {
        if let Some((_, session)) = run.state.holder()
            && !state.sessions.contains_key(&session)
        {
            findings.push(format!("run {id} is held by session {session}, which does not exist"));
        }
    }
}

/// The spool's numbers are those between its head and its tail.
fn spool_is_without_gaps(state: &State, findings: &mut Vec<String>) {
    let expected = state.meta.spool_head..state.meta.spool_tail;
    if !state.spool.keys().copied().eq(expected.clone()) {
        findings.push(format!(
            "the spool holds {:?}, expected {expected:?}",
            state.spool.keys()
        ));
    }
}

/// A name leads to one task that bears it and is not terminated.
fn names_belong_to_one_task(state: &State, findings: &mut Vec<String>) {
    let mut expected = BTreeSet::new();
    for (id, task) in &state.tasks {
        let terminated = state.statuses.get(id).is_some_and(|s| s.state == TaskState::Terminated);
        if let Some(name) = task.spec.name.as_deref().filter(|_| !terminated) {
            let key = Key::Name(&task.spec.namespace, name);
            if !expected.insert(key.encode()) {
                findings.push(format!("name {name:?} is borne by two tasks, one of them {id}"));
            }
        }
    }
    if state.index(Table::Names) != &expected {
        findings.push("the table of names differs from the names of the tasks".to_owned());
    }
}

/// A group counts exactly its runs that are ready or under way, and those that wait; nobody waits for room that nobody takes.
fn groups_count_their_runs(state: &State, findings: &mut Vec<String>) {
    let mut expected: BTreeMap<Vec<u8>, GroupRoom> = BTreeMap::new();
    for run in state.runs.values() {
        let Some(group) = &run.group else { continue };
        let key = Key::Group(&run.namespace, &group.name).encode();
        let room = expected.entry(key).or_default();
        room.taken += u64::from(run.state.takes_room());
        room.blocked += u64::from(run.state == RunState::Blocked);
    }
    expected.retain(|_, room| *room != GroupRoom::default());
    if expected != state.groups {
        findings.push(format!("groups count {:?}, their runs are {expected:?}", state.groups));
    }
    for (key, room) in &state.groups {
        if room.taken == 0 && room.blocked > 0 {
            findings.push(format!(
                "{} runs wait for room in the empty group {key:02x?}",
                room.blocked
            ));
        }
    }
}

/// A task that waits is listed under each task it waits for, and nobody else is; a task counts those that wait for it.
fn tasks_that_wait_are_listed(state: &State, findings: &mut Vec<String>) {
    let mut expected = BTreeSet::new();
    let mut counts: BTreeMap<TaskId, u32> = BTreeMap::new();
    for (id, status) in &state.statuses {
        if status.state == TaskState::Spooled {
            continue;
        }
        for parent in &status.waits_for {
            expected.insert(Key::Dependent(*parent, *id).encode());
            *counts.entry(*parent).or_default() += 1;
            if state.statuses.get(parent).is_none_or(|parent| parent.has_told()) {
                findings.push(format!("task {id} waits for task {parent}, which has ended"));
            }
        }
    }
    let (from, to) = Key::dependents_all();
    let listed = state
        .index(Table::Groups)
        .range(from..to)
        .cloned()
        .collect::<BTreeSet<_>>();
    if listed != expected {
        findings.push("the lists of tasks that wait differ from the tasks".to_owned());
    }
    for (id, status) in &state.statuses {
        let waiting = counts.get(id).copied().unwrap_or(0);
        if status.dependents != waiting {
            findings.push(format!(
                "task {id} counts {} that wait for it, there are {waiting}",
                status.dependents
            ));
        }
    }
}

/// A calendar lists exactly the tasks that may still ask it, and exists while one may; the counts are the numbers of calendars.
fn calendars_are_counted_and_list_their_tasks(state: &State, findings: &mut Vec<String>) {
    let mut uses = BTreeSet::new();
    for (id, status) in &state.statuses {
        for name in used_by(status) {
            uses.insert(Key::CalendarUse(&status.namespace, name, *id).encode());
            let known = (status.namespace.clone(), name.clone());
            if status.next != NextRun::Never && !state.calendars.contains(&known) {
                findings.push(format!("task {id} uses calendar {name:?}, which does not exist"));
            }
        }
    }
    let (from, to) = Key::calendar_uses_all();
    let listed: BTreeSet<_> = state.index(Table::Calendars).range(from..to).cloned().collect();
    if listed != uses {
        findings.push("the lists of tasks that use calendars differ from the tasks".to_owned());
    }
    let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for (namespace, _) in &state.calendars {
        *counts.entry(Key::CalendarCount(namespace).encode()).or_default() += 1;
    }
    if counts != state.calendar_counts || state.meta.calendars != state.calendars.len() as u64 {
        findings.push(format!(
            "calendars are counted as {} in all, {:?}; there are {counts:?}",
            state.meta.calendars, state.calendar_counts
        ));
    }
}

/// Tables of which only the keys are read.
const INDEXES: [Table; 8] = [
    Table::Waiting,
    Table::Ready,
    Table::Running,
    Table::Ended,
    Table::Labels,
    Table::Names,
    Table::Groups,
    Table::Calendars,
];

impl State {
    fn read(view: &impl View) -> Result<Self, Fault> {
        let mut state = Self::default();
        // Ledger and answers say nothing of the rest.
        for table in Table::ALL
            .into_iter()
            .filter(|table| !matches!(table, Table::Ledger | Table::Requests))
        {
            for_each(view, table, |key, value| state.put(table, key, value))?;
        }
        Ok(state)
    }

    /// Takes a pair of key and value, in place of an older one under this key.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let id = Id { table, key };
        match table {
            Table::Tasks => id.insert(&mut self.tasks, decode_task, Kind::Task, value)?,
            Table::Status => id.insert(&mut self.statuses, decode_task, Kind::TaskStatus, value)?,
            Table::Runs => id.insert(&mut self.runs, decode_run, Kind::Run, value)?,
            Table::Spool => id.insert(&mut self.spool, decode_u64, Kind::SpoolOp, value)?,
            Table::Sessions if decode_session(key).is_some() => {
                id.insert(&mut self.sessions, decode_session, Kind::Session, value)?;
            }
            Table::Groups if is_within(key, Key::groups()) => {
                let room = decode_record(table, key, Kind::GroupRoom, value)?;
                self.groups.insert(key.to_vec(), room);
            }
            Table::Calendars => {
                if let Some((namespace, name)) = decode_calendar(key) {
                    let _: Calendar = decode_record(table, key, Kind::Calendar, value)?;
                    self.calendars.insert((namespace.to_owned(), name.to_owned()));
                } else if is_within(key, Key::calendar_counts()) {
                    let count = decode_record(table, key, Kind::CalendarCount, value)?;
                    self.calendar_counts.insert(key.to_vec(), count);
                }
            }
            Table::Meta if key == Key::Meta.encode() => self.meta = decode_record(table, key, Kind::Meta, value)?,
            _ => {}
        }
        if INDEXES.contains(&table) {
            self.indexes.entry(table).or_default().insert(key.to_vec());
        }
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Fault> {
        let id = Id { table, key };
        match table {
            Table::Tasks => id.remove(&mut self.tasks, decode_task)?,
            Table::Status => id.remove(&mut self.statuses, decode_task)?,
            Table::Runs => id.remove(&mut self.runs, decode_run)?,
            Table::Spool => id.remove(&mut self.spool, decode_u64)?,
            Table::Sessions if decode_session(key).is_some() => id.remove(&mut self.sessions, decode_session)?,
            Table::Groups => drop(self.groups.remove(key)),
            Table::Calendars => {
                if let Some((namespace, name)) = decode_calendar(key) {
                    self.calendars.remove(&(namespace.to_owned(), name.to_owned()));
                }
                self.calendar_counts.remove(key);
            }
            Table::Meta if key == Key::Meta.encode() => self.meta = Meta::default(),
            _ => {}
        }
        if let Some(keys) = self.indexes.get_mut(&table) {
            keys.remove(key);
            if keys.is_empty() {
                self.indexes.remove(&table);
            }
        }
        Ok(())
    }

    fn index(&self, table: Table) -> &BTreeSet<Vec<u8>> {
        static EMPTY: BTreeSet<Vec<u8>> = BTreeSet::new();
        self.indexes.get(&table).unwrap_or(&EMPTY)
    }

    fn has(&self, key: &Key<'_>) -> bool {
        self.index(key.table()).contains(&key.encode())
    }
}

fn is_within(key: &[u8], (from, to): (Vec<u8>, Vec<u8>)) -> bool {
    key >= &from[..] && key < &to[..]
}

/// Where a record is.
struct Id<'a> {
    table: Table,
    key: &'a [u8],
}

impl Id<'_> {
    fn decode<K>(&self, decode: fn(&[u8]) -> Option<K>) -> Result<K, Fault> {
        decode(self.key).ok_or_else(|| Fault::Inconsistent(format!("a key of table {}", self.table.name())))
    }

    fn insert<K: Ord, T: serde::de::DeserializeOwned>(
        &self,
        into: &mut BTreeMap<K, T>,
        decode: fn(&[u8]) -> Option<K>,
        kind: Kind,
        value: &[u8],
    ) -> Result<(), Fault> {
        let record = decode_record(self.table, self.key, kind, value)?;
        into.insert(self.decode(decode)?, record);
        Ok(())
    }

    fn remove<K: Ord, T>(&self, from: &mut BTreeMap<K, T>, decode: fn(&[u8]) -> Option<K>) -> Result<(), Fault> {
        from.remove(&self.decode(decode)?);
        Ok(())
    }
}

/// Reads a table page by page.
fn for_each(
    view: &impl View,
    table: Table,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    const PAGE: usize = 1024;
    // Longer than any key, so that it sorts after all of them.
    let to = vec![0xff; 2048];
    let mut from = Vec::new();
    loop {
        let page = view.scan(table, &from, &to, PAGE)?;
        for (key, value) in &page {
            each(key, value)?;
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => {
                from = last.clone();
                from.push(0);
            }
            _ => return Ok(()),
        }
    }
}

//! What a handler works with: records in, records out, counters, effects. Index keys are not its business.

use super::Position;
use crate::codec::{Kind, decode, encode};
use crate::command::{Effect, Fault, Reject};
use crate::ids::{RunId, TaskId, Token};
use crate::limits;
use crate::run::{LedgerFact, LedgerLine, Run};
use crate::tables::{Key, Meta, Staged, Table, View};
use crate::task::{Task, TaskRef, TaskStatus};
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a handler stopped: a replicated answer, or a fault of this node.
pub(super) enum Stop {
    Reject(Reject),
    Fault(Fault),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Stop::Reject(reject)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

pub(super) struct Ctx<'a, V> {
    pub(super) staged: &'a mut Staged<V>,
    pub(super) meta: Meta,
    stored: Meta,
    at: Position,
    next_position: u32,
    effects: Vec<Effect>,
    /// The entry carries no time: its leader's clock was not confirmed, and the state's stands still.
    pub(super) timeless: bool,
}

/// What [`Ctx::rollback`] needs besides the staged changes.
pub(super) struct Mark {
    meta: Meta,
    next_position: u32,
}

impl<'a, V: View> Ctx<'a, V> {
    pub(super) fn begin(staged: &'a mut Staged<V>, at: Position, now: Timestamp) -> Result<Self, Fault> {
        let stored: Meta = read_record(staged, &Key::Meta, Kind::Meta)?.unwrap_or_default();
        let mut meta = stored.clone();
        meta.now = meta.now.max(now);
        Ok(Self {
            staged,
            meta,
            stored,
            at,
            next_position: 0,
            effects: Vec::new(),
            timeless: now == Timestamp::MIN,
        })
    }

    /// Writes the counters once for the whole entry.
    pub(super) fn finish(self) {
        if self.meta != self.stored {
            let key = Key::Meta;
            self.staged
                .put(key.table(), key.encode(), encode(Kind::Meta, &self.meta));
        }
        self.staged.mark();
    }

    pub(super) fn mark(&mut self) -> Mark {
        self.staged.mark();
        Mark {
            meta: self.meta.clone(),
            next_position: self.next_position,
        }
    }

    pub(super) fn rollback(&mut self, mark: Mark) {
        self.staged.rollback();
        self.meta = mark.meta;
        self.next_position = mark.next_position;
        self.effects.clear();
    }

    /// Leader time; never runs backwards.
    pub(super) fn now(&self) -> Timestamp {
        self.meta.now
    }

    /// Whether operations go into the spool: the scheduler is shut down, or earlier ones are still there.
    pub(super) fn spooling(&self) -> bool {
        self.meta.shutdown.is_some() || self.meta.spooled() > 0
    }

    /// Returns a token that no other decision has: this entry's index and the next position in it.
    pub(super) fn new_token(&mut self) -> Token {
        let token = Token {
            index: self.at.index,
            position: self.next_position,
        };
        self.next_position += 1;
        token
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        // Several runs of one command wake the same duty: once is enough.
        if self.effects.last() != Some(&effect) {
            self.effects.push(effect);
        }
    }

    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &Key<'_>, kind: Kind) -> Result<Option<T>, Fault> {
        read_record(&*self.staged, key, kind)
    }

    pub(super) fn put<T: Serialize>(&mut self, key: &Key<'_>, kind: Kind, value: &T) {
        self.staged.put(key.table(), key.encode(), encode(kind, value));
    }

    /// Sets an index entry: all it says is in its key.
    pub(super) fn put_key(&mut self, key: &Key<'_>) {
        self.staged.put(key.table(), key.encode(), Vec::new());
    }

    pub(super) fn delete(&mut self, key: &Key<'_>) {
        self.staged.delete(key.table(), key.encode());
    }

    pub(super) fn resolve(&self, task: &TaskRef) -> Result<TaskId, Stop> {
        match task {
            TaskRef::Id(id) => Ok(*id),
            TaskRef::Name { namespace, name } => {
                self.get(&Key::Name(namespace, name), Kind::NameEntry)?.ok_or_else(|| {
                    Reject::NotFound {
                        what: format!("task {name:?} in namespace {namespace:?}"),
                    }
                    .into()
                })
            }
        }
    }

    pub(super) fn task(&self, id: TaskId) -> Result<Task, Stop> {
        self.get(&Key::Task(id), Kind::Task)?.ok_or_else(|| no_task(id))
    }

    pub(super) fn find_status(&self, id: TaskId) -> Result<Option<TaskStatus>, Fault> {
        self.get(&Key::Status(id), Kind::TaskStatus)
    }

    pub(super) fn status(&self, id: TaskId) -> Result<TaskStatus, Stop> {
        self.find_status(id)?.ok_or_else(|| no_task(id))
    }

    pub(super) fn find_run(&self, id: RunId) -> Result<Option<Run>, Fault> {
        self.get(&Key::Run(id), Kind::Run)
    }

    pub(super) fn run(&self, id: RunId) -> Result<Run, Stop> {
        self.find_run(id)?.ok_or_else(|| {
            Reject::NotFound {
                what: format!("run {id}"),
            }
            .into()
        })
    }

    /// Writes a ledger line of a task and drops the one that is over the bound.
    pub(super) fn ledger(&mut self, task: TaskId, status: &mut TaskStatus, fact: LedgerFact) {
        match &fact {
            LedgerFact::Missed { count, .. } => self.meta.missed = self.meta.missed.saturating_add(*count),
            LedgerFact::Skipped { .. } => self.meta.skipped += 1,
            // Those of a calendar are counted by the one who knows how many are new.
            LedgerFact::DrainFailed { .. }
            | LedgerFact::Closed { .. }
            | LedgerFact::StaleReport { .. }
            | LedgerFact::Resolved { .. } => {}
        }
        let missed = matches!(fact, LedgerFact::Missed { .. } | LedgerFact::Skipped { .. });
        if missed && !status.policy.notify.is_empty() {
            let line = status.ledger_lines;
            self.effect(Effect::OccurrencesMissed { task, line });
        }
        let line = LedgerLine { at: self.now(), fact };
        self.put(&Key::Ledger(task, status.ledger_lines), Kind::LedgerLine, &line);
        if let Some(old) = status.ledger_lines.checked_sub(limits::LEDGER_LINES_MAX) {
            self.delete(&Key::Ledger(task, old));
        }
        status.ledger_lines += 1;
    }
}

fn no_task(id: TaskId) -> Stop {
    Reject::NotFound {
        what: format!("task {id}"),
    }
    .into()
}

/// Reads and decodes one record.
///
/// # Errors
/// Bytes that do not decode are a fault that names table and key.
pub fn read_record<T: DeserializeOwned>(view: &impl View, key: &Key<'_>, kind: Kind) -> Result<Option<T>, Fault> {
    let (table, bytes) = (key.table(), key.encode());
    match view.get(table, &bytes)? {
        Some(value) => decode_record(table, &bytes, kind, &value).map(Some),
        None => Ok(None),
    }
}

/// Decodes the value of a record.
///
/// # Errors
/// Bytes that do not decode are a fault that names table and key.
pub fn decode_record<T: DeserializeOwned>(table: Table, key: &[u8], kind: Kind, value: &[u8]) -> Result<T, Fault> {
    decode(kind, value).map_err(|e| damaged(table, key, e.to_string()))
}

fn damaged(table: Table, key: &[u8], problem: String) -> Fault {
    Fault::Damaged {
        table: table.name(),
        key: key.iter().map(|b| format!("{b:02x}")).collect(),
        problem,
    }
}

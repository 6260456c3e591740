//! Reading records from a view of the tables: typed, one line per record.

use sched_core::apply::{decode_record, read_record};
use sched_core::codec::Kind;
use sched_core::command::{Fault, SpoolOp};
use sched_core::ids::{RunId, SessionId, TaskId};
use sched_core::limits::DRAINED_WORKERS_MAX;
use sched_core::run::Run;
use sched_core::session::{Drained, Session};
use sched_core::tables::{Key, Meta, Table, View, decode_run, decode_session};
use sched_core::task::{Task, TaskRef, TaskStatus};

/// After every key there is: the end of a scan of a whole table.
pub(crate) const END: [u8; 33] = [0xff; 33];

/// Workers of a cluster, and slots of one worker, are far fewer.
const RECORDS_MAX: usize = 1 << 20;

/// Returns the counters and switches.
pub(crate) fn meta(view: &impl View) -> Result<Meta, Fault> {
    Ok(read_record(view, &Key::Meta, Kind::Meta)?.unwrap_or_default())
}

/// Returns a task's definition.
pub(crate) fn task(view: &impl View, id: TaskId) -> Result<Option<Task>, Fault> {
    read_record(view, &Key::Task(id), Kind::Task)
}

/// Returns a task's run-time state.
pub(crate) fn status(view: &impl View, id: TaskId) -> Result<Option<TaskStatus>, Fault> {
    read_record(view, &Key::Status(id), Kind::TaskStatus)
}

/// Returns a session.
pub(crate) fn session(view: &impl View, id: SessionId) -> Result<Option<Session>, Fault> {
    read_record(view, &Key::Session(id), Kind::Session)
}

/// Returns a run.
pub(crate) fn run(view: &impl View, id: RunId) -> Result<Option<Run>, Fault> {
    read_record(view, &Key::Run(id), Kind::Run)
}

/// Returns an operation in the spool.
pub(crate) fn spool_op(view: &impl View, seq: u64) -> Result<Option<SpoolOp>, Fault> {
    read_record(view, &Key::Spool(seq), Kind::SpoolOp)
}

/// Returns the task a caller means.
pub(crate) fn resolve(view: &impl View, task: &TaskRef) -> Result<Option<TaskId>, Fault> {
    match task {
        TaskRef::Id(id) => Ok(Some(*id)),
        TaskRef::Name { namespace, name } => read_record(view, &Key::Name(namespace, name), Kind::NameEntry),
    }
}

/// Returns every live session. Their number is that of the workers.
pub(crate) fn sessions(view: &impl View) -> Result<Vec<(SessionId, Session)>, Fault> {
    let (from, to) = Key::sessions();
    let mut found = Vec::new();
    for (key, value) in view.scan(Table::Sessions, &from, &to, RECORDS_MAX)? {
        let session = decode_record(Table::Sessions, &key, Kind::Session, &value)?;
        let id = decode_session(&key).ok_or_else(|| Fault::Inconsistent("key of a session".into()))?;
        found.push((id, session));
    }
    Ok(found)
}

/// Returns the workers that are drained. Their number is bounded.
pub(crate) fn drained(view: &impl View) -> Result<Vec<Drained>, Fault> {
    let (from, to) = Key::drained_all();
    let pairs = view.scan(Table::Sessions, &from, &to, DRAINED_WORKERS_MAX)?;
    let decode = |(key, value): &(Vec<u8>, Vec<u8>)| decode_record(Table::Sessions, key, Kind::Drained, value);
    pairs.iter().map(decode).collect()
}

/// Returns the runs a session holds. Their number is bounded by its slots.
pub(crate) fn held_by(view: &impl View, session: SessionId) -> Result<Vec<RunId>, Fault> {
    let (from, to) = Key::running_of(session);
    let pairs = view.scan(Table::Running, &from, &to, RECORDS_MAX)?;
    pairs.iter().map(|(key, _)| run_in(key)).collect()
}

/// Returns the run at the end of an index key.
pub(crate) fn run_in(key: &[u8]) -> Result<RunId, Fault> {
    decode_run(key).ok_or_else(|| Fault::Inconsistent("an index key holds no run".into()))
}

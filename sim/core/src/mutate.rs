//! Mutants of `apply`: what it is given, or what it has written, is changed.

use real_core::apply::{Position, apply_entry, read_record};
use real_core::codec::{Kind, encode};
use real_core::command::{Command, Entry, Fault, Item, Outcome};
use real_core::ids::{RunId, TaskId, Token};
use real_core::run::Run;
use real_core::tables::{Key, Meta, Staged, Table, View, Waiting};
use real_core::task::{Delivery, NextRun, TaskStatus};
use sim_ground::Mutant;

/// Operations of the spool that are turned around at once.
const TURNED_MAX: u64 = 64;

/// Opens the gate for at-most-once, which the client port does not: tasks whose description ends in `!` are.
pub(crate) fn delivery(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    for item in &mut entry.items {
        if let Command::Submit { spec, .. } = &mut item.command
            && spec.description.ends_with('!')
        {
            spec.policy.delivery = Some(Delivery::AtMostOnce);
        }
    }
    entry
}

pub(crate) fn apply<V: View>(
    mutant: Mutant,
    staged: &mut Staged<V>,
    at: Position,
    entry: &Entry,
) -> Result<Vec<Outcome>, Fault> {
    let mut entry = entry.clone();
    match mutant {
        Mutant::TokenIgnored => {
            for item in &mut entry.items {
                ignore_token(staged, item)?;
            }
        }
        Mutant::DedupDropped => entry.items.iter_mut().for_each(|item| item.request = None),
        Mutant::DrainOutOfOrder if drains(&entry) => turn_spool(staged)?,
        _ => {}
    }
    let cursors = if mutant == Mutant::CursorNotMoved {
        cursors(staged, &entry)?
    } else {
        Vec::new()
    };
    let outcomes = apply_entry(staged, at, &entry)?;
    for (task, next) in cursors {
        move_back(staged, task, next)?;
    }
    Ok(outcomes)
}

fn current<V: View>(staged: &Staged<V>, run: RunId, named: Token) -> Result<Token, Fault> {
    let run: Option<Run> = read_record(staged, &Key::Run(run), Kind::Run)?;
    Ok(run.and_then(|run| run.state.holder()).map_or(named, |(token, _)| token))
}

fn ignore_token<V: View>(staged: &Staged<V>, item: &mut Item) -> Result<(), Fault> {
    if let Command::Complete { run, token, .. } | Command::Nack { run, token, .. } = &mut item.command {
        *token = current(staged, *run, *token)?;
    }
    Ok(())
}

fn drains(entry: &Entry) -> bool {
    entry
        .items
        .iter()
        .any(|item| matches!(item.command, Command::Drain { .. }))
}

fn turn_spool<V: View>(staged: &mut Staged<V>) -> Result<(), Fault> {
    let meta: Meta = read_record(staged, &Key::Meta, Kind::Meta)?.unwrap_or_default();
    let last = meta.spool_tail.min(meta.spool_head + TURNED_MAX);
    let mut values = Vec::new();
    for seq in meta.spool_head..last {
        values.extend(staged.get(Table::Spool, &Key::Spool(seq).encode())?);
    }
    for (seq, value) in (meta.spool_head..last).zip(values.into_iter().rev()) {
        staged.put(Table::Spool, Key::Spool(seq).encode(), value);
    }
    Ok(())
}

fn cursors<V: View>(staged: &Staged<V>, entry: &Entry) -> Result<Vec<(TaskId, NextRun)>, Fault> {
    let mut found = Vec::new();
    for item in &entry.items {
        let Command::Fire { items, .. } = &item.command else {
            continue;
        };
        for fire in items {
            let status: Option<TaskStatus> = read_record(staged, &Key::Status(fire.task), Kind::TaskStatus)?;
            found.extend(status.map(|status| (fire.task, status.next)));
        }
    }
    Ok(found)
}

/// Puts a task's cursor back where it was, in its record and in the waiting queue.
fn move_back<V: View>(staged: &mut Staged<V>, task: TaskId, next: NextRun) -> Result<(), Fault> {
    let status: Option<TaskStatus> = read_record(staged, &Key::Status(task), Kind::TaskStatus)?;
    let Some(mut status) = status else { return Ok(()) };
    let (NextRun::At(old), NextRun::At(new)) = (next, status.next) else {
        return Ok(());
    };
    if status.pause.is_some()
        || staged
            .get(Table::Waiting, &Key::Waiting(new, Waiting::Task(task)).encode())?
            .is_none()
    {
        return Ok(());
    }
    status.next = next;
    staged.delete(Table::Waiting, Key::Waiting(new, Waiting::Task(task)).encode());
    staged.put(
        Table::Waiting,
        Key::Waiting(old, Waiting::Task(task)).encode(),
        Vec::new(),
    );
    staged.put(
        Table::Status,
        Key::Status(task).encode(),
        encode(Kind::TaskStatus, &status),
    );
    Ok(())
}

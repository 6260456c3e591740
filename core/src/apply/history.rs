//! `DeleteHistory`: deletes ended runs and ledger lines that somebody does not want to keep, in bounded steps.
//!
//! It is about what has been and changes nothing that will be: it is carried out while the scheduler is shut down, too.

use super::ctx::{Ctx, Stop};
use crate::codec::Kind;
use crate::command::Reply;
use crate::ids::{RunId, TaskId};
use crate::limits;
use crate::run::LedgerLine;
use crate::tables::{Key, Table, View};
use crate::task::TaskRef;
use crate::time::Timestamp;

pub(super) fn delete<V: View>(
    ctx: &mut Ctx<'_, V>,
    task: &TaskRef,
    numbers: &[u64],
    lines_before: Option<Timestamp>,
) -> Result<Reply, Stop> {
    let id = ctx.resolve(task)?;
    let old = ctx.status(id)?;
    let mut status = old.clone();
    let mut runs = 0;
    for number in numbers.iter().take(limits::ROUND_ITEMS_MAX) {
        let run = ctx.find_run(RunId {
            task: id,
            number: *number,
        })?;
        // One that was retried since the caller looked lives again.
        if let Some(run) = run.filter(|run| run.state.is_terminal()) {
            ctx.forget_run(&mut status, &run)?;
            runs += 1;
        }
    }
    let lines = match lines_before {
        Some(before) => delete_lines(ctx, id, before)?,
        None => 0,
    };
    ctx.set_status(id, Some(&old), Some(&status))?;
    Ok(Reply::History { runs, lines })
}

/// There are few: the ledger is bounded.
fn delete_lines<V: View>(ctx: &mut Ctx<'_, V>, id: TaskId, before: Timestamp) -> Result<u64, Stop> {
    let (from, to) = Key::ledger_of(id, 0);
    let most = usize::try_from(limits::LEDGER_LINES_MAX).unwrap_or(usize::MAX);
    let mut count = 0;
    for (key, value) in ctx.staged.scan(Table::Ledger, &from, &to, most)? {
        let line: LedgerLine = super::decode_record(Table::Ledger, &key, Kind::LedgerLine, &value)?;
        if line.at < before {
            ctx.staged.delete(Table::Ledger, key);
            count += 1;
        }
    }
    Ok(count)
}

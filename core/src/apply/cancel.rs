//! `Cancel`: ends a run from any state that is not terminal.

use super::ctx::{Ctx, Stop};
use crate::command::{Reject, Reply};
use crate::ids::RunId;
use crate::tables::View;

pub(super) fn cancel<V: View>(ctx: &mut Ctx<'_, V>, id: RunId) -> Result<Reply, Stop> {
    let run = ctx.run(id)?;
    if run.state.is_terminal() {
        return Err(Reject::WrongState {
            what: format!("run {id}"),
            state: run.state.as_str().into(),
            expected: "it has ended already".into(),
        }
        .into());
    }
    let old = ctx.status(id.task)?;
    let mut status = old.clone();
    ctx.stop_run(&mut status, &run, "cancelled")?;
    ctx.set_status(id.task, Some(&old), Some(&status))?;
    Ok(Reply::Run {
        run: Some(id),
        task: id.task,
    })
}

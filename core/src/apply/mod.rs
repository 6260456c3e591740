//! The state machine: one entry of the log, applied to the tables. Pure and deterministic.
//!
//! One file per command. A handler checks, then changes records through its context, which alone knows the indexes. A refused
//! command stages nothing: what it staged before it refused is taken back.

mod after;
mod assign;
mod backfill;
mod calendar;
mod cancel;
mod clock;
mod complete;
mod configure;
mod ctx;
mod dequeue;
mod due;
mod fire;
mod group;
mod history;
mod index;
mod move_task;
mod pause;
mod requests;
mod resolve;
mod retain;
mod retry;
mod runs;
mod search;
mod session;
mod spool;
mod submit;
mod switch;
mod trigger;
mod update;
mod worker;

use crate::command::{Command, Entry, Fault, Item, Outcome, Reject, Reply};
use crate::ids::{RunId, SessionId, Token};
use crate::session::JournalPosition;
use crate::tables::{Staged, View};
use ctx::{Ctx, Stop};

pub use ctx::{decode_record, read_record};
pub(crate) use index::{index_of_run, index_of_task};

/// Where in the log an entry lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Its index.
    pub index: u64,
    /// The term it was committed under.
    pub term: u64,
}

/// Applies one entry: stages its changes and returns one outcome per item, in order.
///
/// # Errors
/// A [`Fault`] means that this node's tables are damaged or cannot be read; the node must stop. The staged changes must then not be written.
pub fn apply_entry<V: View>(staged: &mut Staged<V>, at: Position, entry: &Entry) -> Result<Vec<Outcome>, Fault> {
    if entry.term != at.term {
        let reject = Reject::WrongTerm {
            proposed: entry.term,
            committed: at.term,
        };
        let refused = Outcome {
            reply: Err(reject),
            effects: Vec::new(),
        };
        return Ok(vec![refused; entry.items.len()]);
    }
    let mut ctx = Ctx::begin(staged, at, entry.now)?;
    let mut outcomes = Vec::with_capacity(entry.items.len());
    for item in &entry.items {
        outcomes.push(apply_item(&mut ctx, item)?);
    }
    ctx.finish();
    Ok(outcomes)
}

fn apply_item<V: View>(ctx: &mut Ctx<'_, V>, item: &Item) -> Result<Outcome, Fault> {
    let mark = ctx.mark();
    match requests::once(ctx, item, dispatch) {
        Ok(reply) => Ok(Outcome {
            reply: Ok(reply),
            effects: ctx.take_effects(),
        }),
        Err(Stop::Reject(reject)) => {
            ctx.rollback(mark);
            Ok(Outcome {
                reply: Err(reject),
                effects: Vec::new(),
            })
        }
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

fn dispatch<V: View>(ctx: &mut Ctx<'_, V>, item: &Item) -> Result<Reply, Stop> {
    match &item.command {
        Command::Submit { spec, first } => submit::submit(ctx, &item.principal, spec, *first),
        Command::Dequeue { task, kill } => dequeue::dequeue(ctx, &item.principal, task, *kill),
        Command::Move {
            task,
            generation,
            schedule,
            next,
        } => move_task::move_task(ctx, &item.principal, task, *generation, schedule, *next),
        Command::Trigger { task, params } => trigger::trigger(ctx, item, task, params),
        Command::Retry { run } => retry::retry(ctx, *run),
        Command::Cancel { run } => cancel::cancel(ctx, *run),
        Command::Pause { task, until, note } => pause::pause(ctx, task, *until, note),
        Command::Resume {
            task,
            generation,
            next,
            paused,
        } => pause::resume(ctx, task, *generation, *next, paused.as_ref()),
        Command::ClearSpool { upto } => spool::clear(ctx, *upto),
        Command::Shutdown { message } => switch::shutdown(ctx, message),
        Command::Start => switch::start(ctx),
        Command::Drain { items } => spool::drain(ctx, items),
        Command::Fire { leader_since, items } => fire::fire(ctx, *leader_since, items),
        Command::Due { runs } => due::due(ctx, runs),
        Command::Assign { items } => assign::assign(ctx, items),
        Command::Grant {
            run,
            token,
            session,
            position,
        } => assign::grant(ctx, *run, *token, *session, *position),
        Command::Complete {
            run,
            token,
            session,
            position,
            result,
        } => complete::complete(ctx, &report(*run, *token, *session, *position), result),
        Command::Nack {
            run,
            token,
            session,
            reason,
        } => complete::not_started(ctx, &report(*run, *token, *session, None), reason, false),
        Command::NotStarted {
            run,
            token,
            session,
            position,
            reason,
        } => complete::not_started(ctx, &report(*run, *token, *session, *position), reason, true),
        Command::Resolve { run, resolution } => resolve::resolve(ctx, &item.principal, *run, *resolution),
        Command::ResetClock { to } => clock::reset(ctx, &item.principal, *to),
        Command::SessionOpen {
            worker,
            journal,
            node,
            slots,
            labels,
            held,
            queues,
            position,
            openings,
        } => {
            let session = crate::session::Session {
                worker: worker.clone(),
                journal: *journal,
                node: *node,
                slots: *slots,
                labels: labels.clone(),
                bound: ctx.new_token(),
                opened_at: ctx.now(),
                closing: false,
                queues: queues.clone(),
                position: *position,
                opening: openings.last().copied().unwrap_or(0),
            };
            session::open(ctx, session, openings, held)
        }
        Command::SessionExpire { session, bound } => session::expire(ctx, *session, *bound),
        Command::SessionClose { session } => session::close(ctx, *session),
        Command::DrainWorker { worker, note } => worker::drain(ctx, &item.principal, worker, note),
        Command::UndrainWorker { worker } => worker::undrain(ctx, worker),
        Command::Backfill {
            task,
            generation,
            times,
            at_once,
        } => backfill::backfill(ctx, item, task, *generation, times, *at_once),
        Command::Update {
            task,
            generation,
            spec,
            next,
        } => update::update(ctx, &item.principal, task, *generation, spec, *next),
        Command::Configure { set, unset } => configure::configure(ctx, set, unset),
        Command::DeleteHistory {
            task,
            runs,
            lines_before,
        } => history::delete(ctx, task, runs, *lines_before),
        Command::Retain {
            runs,
            tasks,
            requests_until,
        } => retain::retain(ctx, runs, tasks, *requests_until),
        Command::SetCalendar {
            namespace,
            name,
            calendar,
            generation,
        } => calendar::set(ctx, (namespace, name), calendar, *generation),
        Command::DeleteCalendar {
            namespace,
            name,
            generation,
        } => calendar::delete(ctx, namespace, name, *generation),
        Command::SearchedAgain { task, generation, next } => search::searched_again(ctx, *task, *generation, *next),
    }
}

fn report(run: RunId, token: Token, session: SessionId, position: Option<JournalPosition>) -> complete::Report {
    complete::Report {
        run,
        token,
        session,
        position,
    }
}

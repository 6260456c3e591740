//! Sessions of workers: opened, rebound under the same journal, expired, closed.

use super::complete::{is_recorded, lose};
use super::ctx::{Ctx, Stop};
use crate::codec::Kind;
use crate::command::{Effect, Fault, Reject, Reply};
use crate::ids::{RunId, SessionId, Token};
use crate::limits;
use crate::run::{Run, RunState};
use crate::session::{Disposition, JournalPosition, Session};
use crate::tables::{Key, Table, View, decode_run};

/// Opens a session, or rebinds the live one of the same journal, and says what to do with each attempt the worker holds.
///
/// A journal that is not the one its session knows was restored or copied, and is refused. Under another journal the old session stays
/// until its lease is over: its processes may still run.
pub(super) fn open<V: View>(
    ctx: &mut Ctx<'_, V>,
    session: Session,
    openings: &[u64],
    held: &[(RunId, Token)],
) -> Result<Reply, Stop> {
    let (bound, journal) = (session.bound, session.journal);
    let current: Option<SessionId> = ctx.get(&Key::Journal(journal), Kind::JournalEntry)?;
    let rebound = match current {
        Some(id) => ctx
            .get::<Session>(&Key::Session(id), Kind::Session)?
            .filter(|live| !live.closing)
            .map(|live| (id, live)),
        None => None,
    };
    let id = match rebound {
        Some((id, live)) => {
            same_journal(&live, &session, openings)?;
            let opened_at = live.opened_at;
            ctx.put(&Key::Session(id), Kind::Session, &Session { opened_at, ..session });
            id
        }
        None => {
            let id = SessionId(bound);
            ctx.put(&Key::Session(id), Kind::Session, &session);
            ctx.put(&Key::Worker(&session.worker), Kind::WorkerEntry, &id);
            ctx.put(&Key::Journal(journal), Kind::JournalEntry, &id);
            id
        }
    };
    let mut dispositions = Vec::with_capacity(held.len().min(limits::HELD_TOKENS_MAX));
    for (run, token) in held.iter().take(limits::HELD_TOKENS_MAX) {
        let disposition = dispose(ctx.find_run(*run)?.as_ref(), *token, id, journal);
        dispositions.push((*run, *token, disposition));
    }
    ctx.effect(Effect::WakeDispatcher);
    Ok(Reply::Session {
        id,
        bound,
        dispositions,
    })
}

/// Whether the journal of an opening goes on from where its session knows it.
fn same_journal(live: &Session, opening: &Session, openings: &[u64]) -> Result<(), Reject> {
    let other = |problem: String| {
        Err(Reject::OtherJournal {
            worker: opening.worker.clone(),
            problem,
        })
    };
    match (live.position, opening.position) {
        (Some(known), None) => return other(format!("had {} records and is gone", known.length)),
        (Some(known), Some(told)) => moves_on(known, told).or_else(other)?,
        (None, _) => {}
    }
    if live.opening != 0 && !openings.contains(&live.opening) {
        return other("does not know the newest opening of its own session".to_owned());
    }
    Ok(())
}

/// Whether a journal that ended at `known` can end at `told` now.
fn moves_on(known: JournalPosition, told: JournalPosition) -> Result<(), String> {
    if told.length < known.length {
        return Err(format!("has {} records, and had {} before", told.length, known.length));
    }
    if told.length == known.length && told.head != known.head {
        return Err(format!("has {} records, and other ones than before", told.length));
    }
    Ok(())
}

/// Returns the session that reports, and notes how far its journal has come. Reports overtake each other on their way, so that a lower
/// position says nothing; an equal one with another hash does.
pub(super) fn reporter<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: SessionId,
    position: Option<JournalPosition>,
) -> Result<Session, Stop> {
    let mut session = live(ctx, id)?;
    let (Some(told), Some(known)) = (position, session.position) else {
        return Ok(session);
    };
    if told.length >= known.length {
        if let Err(problem) = moves_on(known, told) {
            return Err(Reject::OtherJournal {
                worker: session.worker,
                problem,
            }
            .into());
        }
        if told.length > known.length {
            session.position = Some(told);
            ctx.put(&Key::Session(id), Kind::Session, &session);
        }
    }
    Ok(session)
}

fn dispose(run: Option<&Run>, token: Token, session: SessionId, journal: u128) -> Disposition {
    let Some(run) = run else { return Disposition::Stale };
    if run.state.holder() == Some((token, session)) {
        return if run.cancelling {
            Disposition::Kill
        } else {
            Disposition::Continue
        };
    }
    let own = run
        .attempts
        .iter()
        .any(|attempt| attempt.token == token && attempt.journal == journal);
    if own && matches!(run.state, RunState::Lost { token: lost, .. } if lost == token) {
        // The worker came back and still runs it: let it end and report.
        return if run.cancelling {
            Disposition::Kill
        } else {
            Disposition::Continue
        };
    }
    if own && is_recorded(run, token) {
        Disposition::Recorded
    } else {
        Disposition::Stale
    }
}

/// Takes the runs of a session whose lease is over, in bounded steps; the session goes with the last of them.
///
/// A session that was opened again since the leader looked lives on: its worker was told to go on with what it holds.
pub(super) fn expire<V: View>(ctx: &mut Ctx<'_, V>, id: SessionId, bound: Token) -> Result<Reply, Stop> {
    let mut session = live(ctx, id)?;
    if session.bound != bound {
        return Err(Reject::WrongState {
            what: format!("session {id}"),
            state: "opened again".into(),
            expected: "its lease is that of the newer opening".into(),
        }
        .into());
    }
    let (from, to) = Key::running_of(id);
    let held = ctx
        .staged
        .scan(Table::Running, &from, &to, limits::EXPIRE_RUNS_MAX + 1)?;
    let more = held.len() > limits::EXPIRE_RUNS_MAX;
    let mut count = 0;
    for (key, _) in held.iter().take(limits::EXPIRE_RUNS_MAX) {
        let run = decode_run(key).ok_or_else(|| Fault::Inconsistent("key of the running list".into()))?;
        let old = ctx
            .find_run(run)?
            .ok_or_else(|| Fault::Inconsistent(format!("running run {run} has no record")))?;
        let Some((token, _)) = old.state.holder() else {
            return Err(Fault::Inconsistent(format!("run {run} is listed as running")).into());
        };
        let old_status = ctx.status(run.task)?;
        let mut status = old_status.clone();
        lose(
            ctx,
            &mut status,
            &old,
            old.clone(),
            token,
            "the session of its worker expired",
        )?;
        ctx.set_status(run.task, Some(&old_status), Some(&status))?;
        count += 1;
    }
    if more {
        session.closing = true;
        ctx.put(&Key::Session(id), Kind::Session, &session);
    } else {
        remove(ctx, id, &session)?;
    }
    Ok(Reply::Count { count, more })
}

/// A worker leaves by itself: no new runs for it; it goes when it holds none.
pub(super) fn close<V: View>(ctx: &mut Ctx<'_, V>, id: SessionId) -> Result<Reply, Stop> {
    let mut session = live(ctx, id)?;
    let (from, to) = Key::running_of(id);
    let more = !ctx.staged.scan(Table::Running, &from, &to, 1)?.is_empty();
    if more {
        session.closing = true;
        ctx.put(&Key::Session(id), Kind::Session, &session);
    } else {
        remove(ctx, id, &session)?;
    }
    Ok(Reply::Count { count: 0, more })
}

fn live<V: View>(ctx: &Ctx<'_, V>, id: SessionId) -> Result<Session, Stop> {
    ctx.get(&Key::Session(id), Kind::Session)?
        .ok_or_else(|| Reject::NoSession { session: id }.into())
}

fn remove<V: View>(ctx: &mut Ctx<'_, V>, id: SessionId, session: &Session) -> Result<(), Fault> {
    ctx.delete(&Key::Session(id));
    let journal = Key::Journal(session.journal);
    if ctx.get::<SessionId>(&journal, Kind::JournalEntry)? == Some(id) {
        ctx.delete(&journal);
    }
    let worker = Key::Worker(&session.worker);
    if ctx.get::<SessionId>(&worker, Kind::WorkerEntry)? == Some(id) {
        ctx.delete(&worker);
    }
    ctx.effect(Effect::SessionEnded { session: id });
    Ok(())
}

//! `Assign` and `Grant`: a run gets an attempt token and a holder; an at-most-once attempt is granted its start.

use super::ctx::{Ctx, Stop};
use super::runs::begin_attempt;
use super::session::reporter;
use crate::codec::Kind;
use crate::command::{AssignItem, Effect, Reject, Reply};
use crate::ids::{RunId, SessionId, Token};
use crate::limits;
use crate::run::RunState;
use crate::session::{JournalPosition, Session, serves};
use crate::tables::{Key, View};
use crate::task::Delivery;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Gives runs to sessions. The plan is older than the state, so each item is checked again; a refused one changes nothing.
pub(super) fn assign<V: View>(ctx: &mut Ctx<'_, V>, items: &[AssignItem]) -> Result<Reply, Stop> {
    if ctx.meta.shutdown.is_some() {
        return Err(super::spool::shut_down());
    }
    let mut sessions: BTreeMap<SessionId, Option<Session>> = BTreeMap::new();
    let mut tokens = Vec::with_capacity(items.len());
    for item in items.iter().take(limits::ROUND_ITEMS_MAX) {
        let session = match sessions.entry(item.session) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let session: Option<Session> = ctx.get(&Key::Session(item.session), Kind::Session)?;
                let session = match session.filter(|session| !session.closing) {
                    Some(session) if !super::worker::is_drained(ctx, &session.worker)? => Some(session),
                    _ => None,
                };
                place.insert(session)
            }
        };
        let Some(session) = session else {
            tokens.push(None);
            continue;
        };
        tokens.push(assign_one(ctx, *item, session)?);
    }
    Ok(Reply::Assigned(tokens))
}

fn assign_one<V: View>(ctx: &mut Ctx<'_, V>, item: AssignItem, session: &Session) -> Result<Option<Token>, Stop> {
    let Some(old) = ctx.find_run(item.run)?.filter(|run| run.state == RunState::Ready) else {
        return Ok(None);
    };
    if !old.placement.allows(&session.labels) || !serves(&session.queues, old.queue.as_deref()) {
        return Ok(None);
    }
    let status = ctx.status(item.run.task)?;
    if let Some(expires) = status.bounds.expires.filter(|at| *at < ctx.now())
        && old.occurrence.is_scheduled()
        && old.attempts_count == 0
    {
        let mut new_status = status.clone();
        let reason = format!("expired: it was to start by {expires}");
        ctx.end_run(&mut new_status, &old, old.clone(), RunState::Failed, reason)?;
        ctx.set_status(item.run.task, Some(&status), Some(&new_status))?;
        return Ok(None);
    }
    let (token, holder) = (ctx.new_token(), item.session);
    let mut new = old.clone();
    let delivery = status.policy.delivery.unwrap_or(Delivery::AtLeastOnce);
    new.state = match delivery {
        Delivery::AtMostOnce => RunState::Assigned { token, session: holder },
        Delivery::AtLeastOnce => RunState::Running { token, session: holder },
    };
    new.reason = String::new();
    begin_attempt(&mut new, token, session, delivery, ctx.now());
    ctx.set_run(item.run, Some(&old), Some(&new))?;
    ctx.effect(Effect::StartAttempt {
        run: item.run,
        token,
        session: holder,
    });
    Ok(Some(token))
}

/// Lets an at-most-once attempt start: from here on its outcome is unknown until it is told. A repeat gets the same answer.
///
/// The worker has the start in its journal before it asks, and says where that ends: a journal that is shorter later on has lost it.
pub(super) fn grant<V: View>(
    ctx: &mut Ctx<'_, V>,
    id: RunId,
    token: Token,
    holder: SessionId,
    position: Option<JournalPosition>,
) -> Result<Reply, Stop> {
    let old = ctx.run(id)?;
    if old.state.holder() != Some((token, holder)) || old.cancelling {
        return Err(Reject::StaleAttempt { run: id, token }.into());
    }
    if reporter(ctx, holder, position)?.closing {
        return Err(Reject::NoSession { session: holder }.into());
    }
    let mut new = old.clone();
    new.state = RunState::Running { token, session: holder };
    if let (Some(attempt), Some(position)) = (new.attempts.last_mut(), position) {
        attempt.journal_length = position.length;
    }
    ctx.set_run(id, Some(&old), Some(&new))?;
    Ok(Reply::Done)
}

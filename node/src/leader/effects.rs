//! Passes on the hints of what was applied: to the duties, and to the workers what they shall start and kill.

use super::Term;
use super::link::Link;
use crate::shared::{OrStop, Shared};
use crate::state;
use crate::worker::wire::{Job, attempt_to_wire, job_to_wire};
use prost::Message as _;
use sched_core::command::Fault;
use sched_core::ids::{RunId, SessionId, Token};
use sched_core::tables::View;
use sched_core::task::{Delivery, Policy};
use sched_core::{Effect, Timestamp};
use sched_proto::worker::{Run, ToWorker};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Starts in one message to a worker, in bytes: they travel at once, and none comes near the bound of a message (16 MiB).
const PART_BYTES: usize = 1024 * 1024;

/// Passes on effects until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>, mut effects: Receiver<Arc<[Effect]>>) {
    loop {
        match effects.recv().await {
            Ok(batch) => pass_on(&shared, &term, &batch).or_stop(),
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(
                    missed,
                    term = term.number,
                    "effects missed, everything is looked at again"
                );
                term.ticker.poke(Timestamp::MIN);
                term.dispatch.notify_one();
                term.drain.notify_one();
                repeat_all(&shared, &term).or_stop();
            }
            // The replica has stopped; this duty is about to be.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn pass_on(shared: &Shared, term: &Term, batch: &[Effect]) -> Result<(), Fault> {
    let mut messages: BTreeMap<SessionId, ToWorker> = BTreeMap::new();
    let mut view = None;
    for effect in batch {
        match effect {
            Effect::WakeTicker(at) => term.ticker.poke(*at),
            Effect::WakeDispatcher => term.dispatch.notify_one(),
            Effect::WakeDrain => term.drain.notify_one(),
            Effect::StartAttempt { run, token, session } => {
                let view = view.get_or_insert_with(|| shared.replica.view());
                if let Some(start) = start_message(view, *run, *token, *session)? {
                    if start.attempt_number == 1 {
                        let late = shared.clock.now().as_millis() - start.scheduled_at_ms;
                        shared.counters.lateness.observe(u64::try_from(late).unwrap_or(0));
                    }
                    messages.entry(*session).or_default().runs.push(start);
                }
            }
            Effect::Kill { run, token, session } => {
                messages
                    .entry(*session)
                    .or_default()
                    .kills
                    .push(attempt_to_wire(*run, *token));
            }
            Effect::WorkerDrained { worker, drained } => term.hub.set_drained(worker, *drained),
            Effect::SessionEnded { session } => term.hub.remove(*session, "the session was closed"),
            // For those who watch, and for `notify`.
            Effect::RunChanged { .. }
            | Effect::TaskChanged { .. }
            | Effect::RunEnded { .. }
            | Effect::RunLost { .. }
            | Effect::OccurrencesMissed { .. } => {}
        }
    }
    for (session, message) in messages {
        if let Some(link) = term.hub.link_of(session) {
            send_in_parts(&link, message);
        }
    }
    Ok(())
}

/// Sends starts and kills in messages that are far below the bound of a message, however large their tasks are.
pub(super) fn send_in_parts(link: &Link, message: ToWorker) {
    let ToWorker { runs, kills, .. } = message;
    let (mut part, mut bytes) = (ToWorker::default(), 0);
    for run in runs {
        let size = run.encoded_len();
        if bytes > 0 && bytes + size > PART_BYTES {
            link.send(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.runs.push(run);
    }
    // After the starts: a kill of what has not been heard of is lost.
    part.kills = kills;
    if !part.runs.is_empty() || !part.kills.is_empty() {
        link.send(part);
    }
}

/// Tells every connected worker again what it shall run. A worker starts a token once in its life, so that a repeat is harmless.
fn repeat_all(shared: &Shared, term: &Term) -> Result<(), Fault> {
    let view = shared.replica.view();
    term.hub.reload_drained(&view)?;
    for (session, link) in term.hub.linked() {
        let message = held_message(&view, session, |_, _| false)?;
        send_in_parts(&link, message);
    }
    Ok(())
}

/// Returns everything a session holds, but for what `knows` says its worker knows.
pub(super) fn held_message(
    view: &impl View,
    session: SessionId,
    knows: impl Fn(RunId, Token) -> bool,
) -> Result<ToWorker, Fault> {
    let mut message = ToWorker::default();
    for id in state::held_by(view, session)? {
        let Some(run) = state::run(view, id)? else { continue };
        let Some((token, _)) = run.state.holder() else { continue };
        if knows(id, token) {
            continue;
        }
        if let Some(start) = start_message(view, id, token, session)? {
            message.runs.push(start);
        }
        if run.cancelling {
            message.kills.push(attempt_to_wire(id, token));
        }
    }
    Ok(message)
}

/// Returns what tells a worker to start an attempt; nothing when the attempt is no longer current.
fn start_message(view: &impl View, id: RunId, token: Token, session: SessionId) -> Result<Option<Run>, Fault> {
    let Some(run) = state::run(view, id)?.filter(|run| run.state.holder() == Some((token, session))) else {
        return Ok(None);
    };
    let Some(task) = state::task(view, id.task)? else {
        return Err(Fault::Inconsistent(format!("running run {id} has no task")));
    };
    // As it was when the attempt was given: the task may have changed since.
    let once = run
        .attempts
        .iter()
        .any(|attempt| attempt.token == token && attempt.at_most_once);
    let delivery = if once {
        Delivery::AtMostOnce
    } else {
        Delivery::AtLeastOnce
    };
    let policy = Policy {
        delivery: Some(delivery),
        // What may be started elsewhere must not go on without contact.
        on_disconnect: task.spec.policy.on_disconnect.filter(|_| once),
        ..task.spec.policy
    };
    let job = Job {
        run: id,
        token,
        namespace: task.spec.namespace,
        task_name: task.spec.name,
        scheduled_at: run.scheduled_at,
        attempt_number: run.attempts_count,
        action: task.spec.action,
        time_limit: policy.time_limit_ms.map(Duration::from_millis),
        params: run.params,
        delivery,
        on_disconnect: policy.on_disconnect(),
    };
    Ok(Some(job_to_wire(&job)))
}

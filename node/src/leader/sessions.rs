//! The leader's end of the workers' streams: Hello opens a session, then reports come in and runs go out.

use super::effects::{held_message, send_in_parts};
use super::hub::{HEARTBEAT, LEASE, Opened, redirect};
use super::link::Link;
use super::reports::{Kind, Report};
use super::{Term, propose_one};
use crate::shared::{OrStop, Shared, cluster_of};
use crate::state;
use crate::worker::wire::{
    WireError, attempt_from_wire, disposition_to_wire, position_from_wire, result_from_wire, session_open_from_wire,
    session_to_wire,
};
use sched_core::command::{Command, Reject, Reply};
use sched_core::ids::{RunId, SessionId, Token};
use sched_core::run::cut;
use sched_core::session::{Disposition, JournalPosition};
use sched_core::validate;
use sched_proto::v1;
use sched_proto::worker as pb;
use sched_proto::worker::worker_gateway_server::WorkerGateway;
use sched_proto::worker::{Attempt, Completed, FromWorker, Nack, NackCode, Progress, Refused, ToWorker, Welcome};
use sched_raft::ProposeError;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A connection that says nothing sensible within this time is ended.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a message for this long is dead: its session's lease is over too.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// Before a worker that was refused for a passing reason tries again, in milliseconds.
const TRY_AGAIN_MS: u32 = 500;

/// The service that workers dial, on any node.
pub(crate) struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl WorkerGateway for Gateway {
    type ConnectStream = ReceiverStream<Result<ToWorker, Status>>;

    async fn connect(&self, request: Request<Streaming<FromWorker>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (link, rx) = Link::new();
        let inbound = request.into_inner();
        let shared = self.shared.clone();
        // Ends when the worker's stream ends, when the link is told to, or after a silence; the answers end with it.
        tokio::spawn(async move { serve(&shared, inbound, link).await });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

async fn serve(shared: &Shared, mut inbound: Streaming<FromWorker>, link: Arc<Link>) {
    let Ok(Ok(Some(first))) = timeout(HELLO_TIMEOUT, inbound.message()).await else {
        return;
    };
    let Some(term) = shared.terms.current() else {
        link.send_last(redirect(shared.leader_elsewhere().unwrap_or_default()));
        return;
    };
    let connected = match open(shared, &term, first, &link).await {
        Ok(connected) => connected,
        Err(last) => return link.send_last(last),
    };
    let session = connected.session;
    loop {
        let message = tokio::select! {
            () = link.gone() => break,
            message = timeout(SILENCE_MAX, inbound.message()) => message,
        };
        match message {
            Ok(Ok(Some(message))) => connected.take(shared, &term, message).await,
            Ok(Ok(None)) => break,
            Ok(Err(e)) => {
                tracing::debug!(worker = connected.worker, error = %e, "connection of a worker broke");
                break;
            }
            Err(_) => {
                tracing::info!(worker = connected.worker, "connection of a worker is silent");
                break;
            }
        }
    }
    term.hub.unlink(session, &link);
    tracing::info!(%session, worker = connected.worker, term = term.number, "worker disconnected");
}

/// A worker with an open session.
struct Connected {
    session: SessionId,
    worker: String,
    link: Arc<Link>,
}

fn refused(reason: impl Into<String>, retry_after_ms: u32) -> ToWorker {
    ToWorker {
        refused: Some(Refused {
            reason: reason.into(),
            retry_after_ms,
            new_journal: false,
        }),
        ..ToWorker::default()
    }
}

/// The last message to a worker whose journal was restored or copied.
pub(super) fn other_journal(shared: &Shared, reject: &Reject) -> ToWorker {
    shared.counters.journals_refused.add(1);
    tracing::error!(error = %reject, "a worker's journal is refused");
    let mut message = refused(reject.to_string(), 1);
    if let Some(refused) = &mut message.refused {
        refused.new_journal = true;
    }
    message
}

/// Returns the refusal of a worker that belongs to another cluster: its journal may hold attempts under the same tokens, which it would never start.
fn of_another_cluster(shared: &Shared, hello: &pb::Hello) -> Option<ToWorker> {
    let own = cluster_of(&shared.replica.formation().borrow());
    if hello.cluster.is_empty() || hello.cluster == own {
        return None;
    }
    let (worker, theirs) = (cut(&hello.worker), cut(&hello.cluster));
    shared.counters.workers_refused.add(1);
    tracing::warn!(worker, cluster = theirs, "a worker of another cluster is refused");
    let reason = format!(
        "this is cluster {own}, and worker {worker:?} belongs to cluster {theirs}: let it join its own cluster, or start it with an \
         empty folder"
    );
    Some(refused(reason, 10 * TRY_AGAIN_MS))
}

/// Opens the session and binds the connection to it. An error is the last message to the worker.
async fn open(shared: &Shared, term: &Term, first: FromWorker, link: &Arc<Link>) -> Result<Connected, ToWorker> {
    let hello = first
        .hello
        .ok_or_else(|| refused("the first message has no hello", 0))?;
    let draining = hello.draining;
    if let Some(refusal) = of_another_cluster(shared, &hello) {
        return Err(refusal);
    }
    let command = session_open_from_wire(hello).map_err(|e| refused(e.to_string(), 0))?;
    let Command::SessionOpen {
        worker,
        journal,
        slots,
        labels,
        queues,
        ..
    } = &command
    else {
        return Err(refused("the hello is no hello", 0));
    };
    validate::name("worker", worker).map_err(|e| refused(e.to_string(), 0))?;
    if labels.len() > sched_core::limits::LABELS_MAX {
        return Err(refused(
            format!(
                "labels: {} given, at most {}",
                labels.len(),
                sched_core::limits::LABELS_MAX
            ),
            0,
        ));
    }
    for (label, value) in labels {
        validate::name("labels", label).map_err(|e| refused(e.to_string(), 0))?;
        validate::text("labels", value).map_err(|e| refused(e.to_string(), 0))?;
    }
    for queue in queues {
        validate::name("queues", queue).map_err(|e| refused(e.to_string(), 0))?;
    }
    if term.hub.is_name_taken(worker, *journal) {
        shared.counters.workers_refused.add(1);
        tracing::warn!(worker, "two workers with one name: the second is refused");
        let reason = format!("another worker named {worker:?} is connected; give this one a name of its own");
        return Err(refused(reason, 10 * TRY_AGAIN_MS));
    }
    let (worker, journal, slots) = (worker.clone(), *journal, *slots);
    let (labels, queues) = (labels.clone(), queues.clone());
    let (id, bound, dispositions) = match propose_one(shared, command).await {
        Ok(Reply::Session {
            id,
            bound,
            dispositions,
        }) => (id, bound, dispositions),
        Ok(_) => return Err(refused("the session was answered with something else", TRY_AGAIN_MS)),
        Err(ProposeError::NotLeader { leader }) => {
            return Err(redirect(leader.map(|leader| leader.client_address).unwrap_or_default()));
        }
        Err(ProposeError::Reject(reject @ Reject::OtherJournal { .. })) => return Err(other_journal(shared, &reject)),
        Err(ProposeError::Reject(reject)) => return Err(refused(reject.to_string(), 10 * TRY_AGAIN_MS)),
        Err(e) => return Err(refused(e.to_string(), TRY_AGAIN_MS)),
    };
    // In the queue before the connection is known, so that nothing overtakes it.
    link.send(welcome(term, id, &dispositions));
    let opened = Opened {
        worker: worker.clone(),
        journal,
        labels,
        slots,
        queues,
        draining,
        bound,
    };
    if !term.hub.link(id, opened, link) {
        return Err(ToWorker::default());
    }
    // What is committed from here on is sent as it comes; what was before is in this view. Some may be sent twice.
    let view = shared.replica.view();
    term.hub.holds(id, state::held_by(&view, id).or_stop());
    let known: HashSet<(RunId, Token)> = dispositions.iter().map(|(run, token, _)| (*run, *token)).collect();
    let held = held_message(&view, id, |run, token| known.contains(&(run, token))).or_stop();
    send_in_parts(link, held);
    term.dispatch.notify_one();
    tracing::info!(session = %id, worker, slots, held = known.len(), term = term.number, "worker connected");
    Ok(Connected {
        session: id,
        worker,
        link: link.clone(),
    })
}

fn welcome(term: &Term, id: SessionId, dispositions: &[(RunId, Token, Disposition)]) -> ToWorker {
    let welcome = Welcome {
        session: Some(session_to_wire(id)),
        term: term.number,
        lease_ms: u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX),
        heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
        dispositions: dispositions
            .iter()
            .map(|(run, token, disposition)| disposition_to_wire(*run, *token, *disposition))
            .collect(),
    };
    ToWorker {
        welcome: Some(welcome),
        ..ToWorker::default()
    }
}

impl Connected {
    /// Takes one batch, in the order the protocol says.
    async fn take(&self, shared: &Shared, term: &Term, message: FromWorker) {
        for request in &message.grant_requests {
            if let Ok((run, token, position)) =
                self.attempt(request.attempt.as_ref(), request.journal_position.as_ref())
            {
                let command = Command::Grant {
                    run,
                    token,
                    session: self.session,
                    position,
                };
                self.report(term, Kind::GrantWanted, run, token, command);
            }
        }
        for completed in message.completed {
            self.completed(term, completed);
        }
        for nack in message.nacks {
            self.nack(term, nack);
        }
        for progress in message.progress {
            self.progress(shared, term, progress);
        }
        for chunk in message.output {
            self.link.deliver(chunk);
        }
        if let Some(goodbye) = message.goodbye {
            term.hub.drain(self.session);
            tracing::info!(worker = self.worker, empty = goodbye.empty, "worker leaves");
            if goodbye.empty {
                self.close(shared, term).await;
            }
        }
        if let Some(heartbeat) = message.heartbeat {
            term.hub.heartbeat(self.session, &self.link, heartbeat.seq);
        }
    }

    fn attempt(
        &self,
        attempt: Option<&Attempt>,
        position: Option<&pb::JournalPosition>,
    ) -> Result<(RunId, Token, Option<JournalPosition>), ()> {
        let read = || {
            let (run, token) = attempt_from_wire(attempt)?;
            Ok::<_, WireError>((run, token, position_from_wire(position)?))
        };
        read().map_err(|e| {
            tracing::warn!(worker = self.worker, error = %e, "a worker named no attempt");
        })
    }

    fn report(&self, term: &Term, kind: Kind, run: RunId, token: Token, command: Command) {
        let (session, link) = (self.session, self.link.clone());
        term.reports.push(Report {
            kind,
            session,
            link,
            run,
            token,
            command,
        });
    }

    fn completed(&self, term: &Term, completed: Completed) {
        let place = completed.journal_position.as_ref();
        let Ok((run, token, position)) = self.attempt(completed.attempt.as_ref(), place) else {
            return;
        };
        match result_from_wire(completed.result.unwrap_or_default()) {
            Ok(result) => {
                let command = Command::Complete {
                    run,
                    token,
                    session: self.session,
                    position,
                    result: Box::new(result),
                };
                self.report(term, Kind::Ended, run, token, command);
            }
            Err(e) => {
                tracing::warn!(worker = self.worker, %run, attempt = %token, error = %e, "a worker sent no result")
            }
        }
    }

    fn nack(&self, term: &Term, nack: Nack) {
        let Ok((run, token, position)) = self.attempt(nack.attempt.as_ref(), nack.journal_position.as_ref()) else {
            return;
        };
        let code = match nack.code() {
            NackCode::Unspecified => "no reason given",
            NackCode::Full => "no slot is free",
            NackCode::Draining => "it is leaving",
            NackCode::NoContact => "it had no contact",
            NackCode::TooOld => "too old to tell whether it was started",
            NackCode::Killed => "killed before it started",
            NackCode::Invalid => "not understood",
            NackCode::Journal => "it cannot write its journal",
        };
        let reason = if nack.reason.is_empty() {
            code.to_owned()
        } else {
            format!("{code}: {}", nack.reason)
        };
        let reason = cut(&reason).to_owned();
        let session = self.session;
        let command = if position.is_some() {
            Command::NotStarted {
                run,
                token,
                session,
                position,
                reason,
            }
        } else {
            Command::Nack {
                run,
                token,
                session,
                reason,
            }
        };
        self.report(term, Kind::Refused, run, token, command);
    }

    fn progress(&self, shared: &Shared, term: &Term, progress: Progress) {
        let Ok((run, token, _)) = self.attempt(progress.attempt.as_ref(), None) else {
            return;
        };
        let progress = v1::Progress {
            percent: progress.percent.map(|percent| percent.min(100)),
            message: cut(&progress.message).to_owned(),
            reported_at_unix_ms: shared.clock.now().as_millis(),
        };
        term.hub.note_progress(self.session, run, token, progress);
    }

    /// Closes the session of a worker that holds nothing any more.
    async fn close(&self, shared: &Shared, term: &Term) {
        match propose_one(shared, Command::SessionClose { session: self.session }).await {
            Ok(_) => term.hub.remove(self.session, "closed"),
            // The lease ends it.
            Err(e) => tracing::info!(session = %self.session, error = %e, "session not closed"),
        }
    }
}

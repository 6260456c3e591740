//! What the agent does about the leader's messages.

use super::Agent;
use crate::worker::held::Offer;
use crate::worker::link::Connection;
use crate::worker::output::{OutputStore, ReadError};
use crate::worker::stream::{Hello, Stream, StreamEvent};
use crate::worker::wire::{
    PROTOCOL_VERSION, attempt_from_wire, attempt_to_wire, disposition_from_wire, job_from_wire, journal_to_wire,
    position_to_wire, run_id_from_wire,
};
use sched_core::session::Disposition;
use sched_core::{RunId, SessionId, Token};
use sched_proto::worker as pb;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For the session to be committed, on a busy cluster too.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(6);
/// What a leader may ask for; outside of it something is wrong, and these keep the worker sane.
const LEASE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// See [`LEASE`]; the upper bound is a fifth of the lease.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);
/// When the leader says that trying again is useless.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Requests for output served at once.
const READS_MAX: usize = 64;

impl Agent {
    pub(super) fn on_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Connected(Ok(connection)) => self.say_hello(connection),
            StreamEvent::Opened(Ok(link)) => {
                let idle = Stream::Idle { retry_at: None };
                self.stream = match std::mem::replace(&mut self.stream, idle) {
                    Stream::Opening { hello, .. } => Stream::Open {
                        hello,
                        link,
                        welcomed: false,
                    },
                    other => other,
                };
            }
            StreamEvent::Connected(Err(reason)) | StreamEvent::Opened(Err(reason)) | StreamEvent::Closed(reason) => {
                self.disconnect(&reason, None);
            }
            StreamEvent::Message(message) => self.on_message(*message),
        }
    }

    fn say_hello(&mut self, connection: Box<dyn Connection>) {
        let Some(address) = self.stream.address().map(str::to_owned) else {
            return;
        };
        let (journal_high, journal_low) = journal_to_wire(self.journal.id());
        let held = self.held.hello();
        let named = held
            .iter()
            .filter_map(|held| Some(attempt_from_wire(held.attempt.as_ref()).ok()?.1))
            .collect();
        let hello = pb::Hello {
            protocol_version: PROTOCOL_VERSION,
            worker: self.identity.name.clone(),
            journal_high,
            journal_low,
            journal_position: Some(position_to_wire(self.journal.position())),
            node: self.identity.node.map(|node| node.0),
            slots: self.identity.slots,
            labels: self.identity.labels.clone().into_iter().collect(),
            held,
            draining: self.held.is_draining() || self.journal.failure().is_some(),
            openings: self.journal.openings().to_vec(),
            // It takes what belongs to no queue.
            queues: Vec::new(),
            cluster: (self.identity.cluster)(),
        };
        let first = pb::FromWorker {
            hello: Some(hello),
            ..Default::default()
        };
        // Before it is sent: too early shortens contact, too late would stretch it.
        let hello = Hello {
            address,
            sent: self.clock().boot(),
            answer_by: Instant::now() + WELCOME_TIMEOUT,
            held: named,
        };
        self.stream = Stream::Opening {
            hello,
            link: connection.open(first),
        };
    }

    fn on_message(&mut self, message: pb::ToWorker) {
        if let Some(welcome) = message.welcome {
            self.on_welcome(&welcome);
        }
        if let Some(redirect) = message.redirect {
            let elsewhere = !redirect.leader.is_empty() && self.stream.address() != Some(redirect.leader.as_str());
            self.hint = elsewhere.then_some(redirect.leader);
            return self.disconnect("the node dialled does not lead", None);
        }
        if let Some(refused) = message.refused {
            tracing::warn!(
                worker = self.identity.name,
                reason = refused.reason,
                "the leader refuses the worker"
            );
            if refused.new_journal {
                return self.disown(&refused.reason);
            }
            let pause = match refused.retry_after_ms {
                0 => REFUSED_PAUSE,
                ms => Duration::from_millis(ms.into()).min(REFUSED_PAUSE),
            };
            return self.disconnect(&refused.reason, Some(pause));
        }
        if !self.stream.is_welcomed() {
            return self.disconnect("the leader's first message is no welcome", None);
        }
        if let Some(ack) = message.heartbeat_ack {
            self.contact.acknowledged(ack.seq);
        }
        for (_, token) in attempts(&message.recorded) {
            self.held.recorded(token);
        }
        for rejected in &message.rejected {
            let Ok((run, token)) = attempt_from_wire(rejected.attempt.as_ref()) else {
                continue;
            };
            tracing::error!(%run, attempt = %token, reason = rejected.reason, "the leader refuses a report");
            self.held.rejected(token);
        }
        message.runs.into_iter().for_each(|run| self.on_run(run));
        for (_, token) in attempts(&message.granted) {
            self.on_granted(token);
        }
        for (run, token) in attempts(&message.kills) {
            let offer = self.held.kill(run, token);
            self.answer(run, token, offer);
        }
        message
            .output_requests
            .into_iter()
            .for_each(|request| self.on_output_request(request));
    }

    fn on_welcome(&mut self, welcome: &pb::Welcome) {
        let Stream::Open { hello, welcomed, .. } = &mut self.stream else {
            return;
        };
        if std::mem::replace(welcomed, true) {
            return tracing::warn!(worker = self.identity.name, "the leader welcomes the worker twice");
        }
        let hello = hello.clone();
        let lease = Duration::from_millis(welcome.lease_ms.into()).clamp(LEASE.0, LEASE.1);
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.into()).clamp(HEARTBEAT_MIN, lease / 5);
        self.contact.welcomed(hello.sent, lease);
        self.timers.welcomed(heartbeat);
        let session = welcome.session.unwrap_or_default();
        let session = SessionId(Token {
            index: session.index,
            position: session.position,
        });
        self.session = Some(session);
        self.journal.opened();
        let (leader, term) = (hello.address.as_str(), welcome.term);
        tracing::info!(worker = self.identity.name, leader, term, %session, held = hello.held.len(), "session open");
        self.dispose(&hello, &welcome.dispositions);
        self.outbox.clear();
        self.held
            .unreported(Duration::MAX)
            .into_iter()
            .for_each(|token| self.outbox.report(token));
        self.held
            .waiting_for_grant()
            .into_iter()
            .for_each(|token| self.outbox.ask_for_grant(token));
        if self.held.is_draining() {
            self.outbox.goodbye(pb::Goodbye {
                empty: false,
                reason: "draining".to_owned(),
            });
        }
    }

    /// Acts on what the leader says about each attempt that was named; what it does not mention is stale.
    fn dispose(&mut self, hello: &Hello, dispositions: &[pb::Disposition]) {
        let mut said = BTreeMap::new();
        for disposition in dispositions {
            match disposition_from_wire(disposition) {
                Ok((token, kind)) => drop(said.insert(token, kind)),
                Err(e) => tracing::warn!(worker = self.identity.name, error = %e, "a disposition makes no sense"),
            }
        }
        for token in &hello.held {
            let disposition = said.get(token).copied().unwrap_or(Disposition::Stale);
            self.held.dispose(*token, disposition);
        }
    }

    fn on_run(&mut self, run: pb::Run) {
        let attempt = attempt_from_wire(run.attempt.as_ref());
        let (id, token) = match attempt {
            Ok(attempt) => attempt,
            Err(e) => return tracing::warn!(worker = self.identity.name, error = %e, "a run makes no sense"),
        };
        let offer = match job_from_wire(run) {
            Ok(job) => self.held.offer(job),
            Err(e) => {
                tracing::warn!(run = %id, attempt = %token, error = %e, "a run is not understood");
                let reason = format!("this worker's version does not understand the run: {e}");
                self.held.not_understood(id, token, reason, self.clock().wall())
            }
        };
        self.answer(id, token, offer);
    }

    fn answer(&mut self, run: RunId, token: Token, offer: Offer) {
        match offer {
            Offer::Taken | Offer::Known => {}
            Offer::Report => self.outbox.report(token),
            Offer::RefuseOnce { code, reason } => {
                let attempt = Some(attempt_to_wire(run, token));
                self.outbox.refuse_once(pb::Nack {
                    attempt,
                    code: code.into(),
                    reason,
                    journal_position: None,
                });
            }
        }
    }

    fn on_granted(&mut self, token: Token) {
        let (phase, now) = (self.contact.phase(self.clock().boot()), self.clock().wall());
        match self.held.granted(token, phase, now) {
            Some(step) => self.take_step(step),
            // A refusal, or nothing: the outbox drops what the table does not have.
            None => self.outbox.report(token),
        }
    }

    fn on_output_request(&mut self, request: pb::OutputRequest) {
        if self.reads.len() >= READS_MAX {
            let reason = format!("{READS_MAX} requests for output are waiting");
            return self.outbox.output(chunk(&request, pb::OutputStatus::Busy, reason));
        }
        let output = self.runner.output.clone();
        self.reads.spawn(async move { read(&output, request).await });
    }
}

fn attempts(attempts: &[pb::Attempt]) -> impl Iterator<Item = (RunId, Token)> + '_ {
    attempts
        .iter()
        .filter_map(|attempt| match attempt_from_wire(Some(attempt)) {
            Ok(attempt) => Some(attempt),
            Err(e) => {
                tracing::warn!(error = %e, "the leader named no attempt");
                None
            }
        })
}

fn chunk(request: &pb::OutputRequest, status: pb::OutputStatus, reason: String) -> pb::OutputChunk {
    let attempt_number = request.attempt_number;
    pb::OutputChunk {
        request: request.request,
        status: status.into(),
        attempt_number,
        reason,
        ..Default::default()
    }
}

async fn read(output: &Arc<OutputStore>, request: pb::OutputRequest) -> pb::OutputChunk {
    let run = match run_id_from_wire(request.run) {
        Ok(run) => run,
        Err(e) => return chunk(&request, pb::OutputStatus::Failed, e.to_string()),
    };
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let wait = Duration::from_millis(request.wait_ms.into());
    match output
        .read(run, request.attempt_number, request.offset, limit, wait)
        .await
    {
        Ok(piece) => pb::OutputChunk {
            request: request.request,
            status: pb::OutputStatus::Ok.into(),
            offset: piece.offset,
            data: piece.data,
            next_offset: piece.next_offset,
            end: piece.end,
            attempt_number: piece.attempt,
            reason: String::new(),
        },
        Err(ReadError::NotFound) => chunk(&request, pb::OutputStatus::NotFound, String::new()),
        Err(e @ ReadError::Failed(_)) => chunk(&request, pb::OutputStatus::Failed, e.to_string()),
    }
}

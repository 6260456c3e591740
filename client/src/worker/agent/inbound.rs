//! What the agent does about the leader's messages.

use super::Agent;
use crate::clock;
use crate::worker::held::Offer;
use crate::worker::link::Connection;
use crate::worker::stream::{Hello, Stream, StreamEvent};
use sched_core::session::Disposition;
use sched_core::task::Action;
use sched_core::{RunId, Token};
use sched_proto::convert::worker::{
    PROTOCOL_VERSION, attempt_from_wire, disposition_from_wire, job_from_wire, journal_to_wire, run_id_from_wire,
};
use sched_proto::worker as pb;
use std::collections::BTreeMap;
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
/// Readers that wait for output at once.
const READERS_MAX: usize = 64;
/// Longest wait of a reader.
const READ_WAIT_MAX: Duration = Duration::from_secs(30);
/// Most bytes of a chunk of output.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

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
        let (journal_high, journal_low) = journal_to_wire(self.identity.journal);
        let (held, named) = self.held.hello();
        let hello = pb::Hello {
            protocol_version: PROTOCOL_VERSION,
            worker: self.identity.name.clone(),
            journal_high,
            journal_low,
            slots: self.identity.slots,
            labels: self.identity.labels.clone().into_iter().collect(),
            held,
            draining: self.held.is_draining(),
            queues: self.identity.queues.iter().cloned().collect(),
            ..Default::default()
        };
        let first = pb::FromWorker {
            hello: Some(hello),
            ..Default::default()
        };
        // Before it is sent: too early shortens contact, too late would stretch it.
        let hello = Hello {
            address,
            sent: clock::boot(),
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
            // There is somewhere to go: go at once.
            let pause = elsewhere.then(|| self.timers.short_pause());
            self.disconnect("the node does not lead", pause);
            self.hint = elsewhere.then_some(redirect.leader);
            return;
        }
        if let Some(refused) = message.refused {
            tracing::warn!(
                worker = self.identity.name,
                reason = refused.reason,
                "the leader refuses the worker"
            );
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
        for rejected in &message.rejected {
            tracing::error!(reason = rejected.reason, "the leader refuses a report");
        }
        let rejected: Vec<pb::Attempt> = message
            .rejected
            .iter()
            .filter_map(|rejected| rejected.attempt)
            .collect();
        for (_, token) in attempts(&message.recorded).chain(attempts(&rejected)) {
            self.held.recorded(token);
        }
        message.runs.into_iter().for_each(|run| self.on_run(run));
        for (_, token) in attempts(&message.granted) {
            self.on_granted(token);
        }
        for (run, token) in attempts(&message.kills) {
            let offer = self.held.kill(run, token);
            self.answer(token, offer);
        }
        for request in message.output_requests {
            self.on_output_request(request);
        }
    }

    fn on_welcome(&mut self, welcome: &pb::Welcome) {
        let Stream::Open { hello, welcomed, .. } = &mut self.stream else {
            return;
        };
        if std::mem::replace(welcomed, true) {
            return;
        }
        let hello = hello.clone();
        let lease = Duration::from_millis(welcome.lease_ms.into()).clamp(LEASE.0, LEASE.1);
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.into()).clamp(HEARTBEAT_MIN, lease / 5);
        self.contact.welcomed(hello.sent, lease);
        self.timers.welcomed(heartbeat);
        self.hint = Some(hello.address.clone());
        let (leader, term) = (hello.address.as_str(), welcome.term);
        tracing::info!(
            worker = self.identity.name,
            leader,
            term,
            held = hello.held.len(),
            "session open"
        );
        self.dispose(&hello, &welcome.dispositions);
        self.outbox.reports.extend(self.held.unreported(Duration::MAX));
        self.outbox.grant_requests.extend(self.held.waiting_for_grant());
        self.outbox.progress.extend(self.held.running());
        if self.held.is_draining() {
            self.outbox.goodbye = Some(draining());
        }
    }

    /// Acts on what the leader says about each attempt that was named; what it does not mention is stale.
    fn dispose(&mut self, hello: &Hello, dispositions: &[pb::Disposition]) {
        let said: BTreeMap<Token, Disposition> = dispositions
            .iter()
            .filter_map(|disposition| disposition_from_wire(disposition).ok())
            .collect();
        for token in &hello.held {
            let disposition = said.get(token).copied().unwrap_or(Disposition::Stale);
            self.held.dispose(*token, disposition);
        }
    }

    fn on_run(&mut self, run: pb::Run) {
        let (id, token) = match attempt_from_wire(run.attempt.as_ref()) {
            Ok(attempt) => attempt,
            Err(e) => return tracing::warn!(worker = self.identity.name, error = %e, "a run makes no sense"),
        };
        let offer = match job_from_wire(run) {
            Ok(job) => match &job.action {
                Action::Worker { queue, .. } if self.identity.queues.contains(queue) => self.held.offer(job),
                Action::Worker { queue, .. } => {
                    let reason = format!("its task was moved to queue {queue}, which this worker does not serve");
                    self.held.fail(id, token, reason)
                }
                other => {
                    let reason = format!("a remote worker cannot run an action of kind {}", other.kind());
                    self.held.fail(id, token, reason)
                }
            },
            Err(e) => {
                let reason = format!("this worker's version does not understand the run: {e}");
                self.held.fail(id, token, reason)
            }
        };
        self.answer(token, offer);
    }

    fn answer(&mut self, token: Token, offer: Offer) {
        match offer {
            Offer::Known => {}
            Offer::Report => drop(self.outbox.reports.insert(token)),
            Offer::RefuseOnce(nack) => self.outbox.refuse_once(*nack),
        }
    }

    fn on_granted(&mut self, token: Token) {
        match self.held.granted(token, self.contact.phase(clock::boot())) {
            Some(step) => self.take_step(step),
            // A refusal, or nothing: the outbox drops what the table does not have.
            None => drop(self.outbox.reports.insert(token)),
        }
    }

    fn on_output_request(&mut self, request: pb::OutputRequest) {
        if self.readers.len() >= READERS_MAX {
            let reason = format!("{READERS_MAX} readers wait for output");
            return self
                .outbox
                .output
                .push_back(no_chunk(&request, pb::OutputStatus::Busy, reason));
        }
        let wait = Duration::from_millis(request.wait_ms.into()).min(READ_WAIT_MAX);
        self.readers.push((Instant::now() + wait, request));
        self.answer_readers();
    }

    /// Answers the readers for whom there is something, or whose wait is over.
    pub(super) fn answer_readers(&mut self) {
        let now = Instant::now();
        for (until, request) in std::mem::take(&mut self.readers) {
            let chunk = self.read(&request);
            let is_idle = chunk.status() == pb::OutputStatus::Ok && chunk.data.is_empty() && !chunk.end;
            if is_idle && now < until {
                self.readers.push((until, request));
            } else {
                self.outbox.output.push_back(chunk);
            }
        }
    }

    fn read(&self, request: &pb::OutputRequest) -> pb::OutputChunk {
        let run = match run_id_from_wire(request.run) {
            Ok(run) => run,
            Err(e) => return no_chunk(request, pb::OutputStatus::Failed, e.to_string()),
        };
        let Some((said, attempt_number)) = self.held.output(run, request.attempt_number) else {
            return no_chunk(request, pb::OutputStatus::NotFound, String::new());
        };
        let limit = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
            0 => CHUNK_BYTES_MAX,
            limit => limit.min(CHUNK_BYTES_MAX),
        };
        let piece = said.output(|output| output.read(request.offset, limit));
        pb::OutputChunk {
            request: request.request,
            status: pb::OutputStatus::Ok.into(),
            offset: piece.offset,
            data: piece.data,
            next_offset: piece.next_offset,
            end: piece.end,
            attempt_number,
            reason: String::new(),
        }
    }
}

/// The farewell of a worker that still holds something.
pub(super) fn draining() -> pb::Goodbye {
    pb::Goodbye {
        empty: false,
        reason: "draining".to_owned(),
    }
}

fn attempts(attempts: &[pb::Attempt]) -> impl Iterator<Item = (RunId, Token)> + '_ {
    attempts
        .iter()
        .filter_map(|attempt| attempt_from_wire(Some(attempt)).ok())
}

fn no_chunk(request: &pb::OutputRequest, status: pb::OutputStatus, reason: String) -> pb::OutputChunk {
    pb::OutputChunk {
        request: request.request,
        status: status.into(),
        attempt_number: request.attempt_number,
        reason,
        ..Default::default()
    }
}

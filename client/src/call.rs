//! One call: asked of one node after the other until somebody answers or time is up.

use crate::error::{ClientError, Said};
use crate::targets::{Target, Targets};
use rand::Rng as _;
use sched_proto::convert::{failure_of, is_worth_another_try};
use sched_proto::metadata;
use sched_proto::v1::scheduler_client::SchedulerClient;
use sched_proto::v1::{Failure, FailureKind};
use std::collections::VecDeque;
use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// How long and how often a [`Client`](crate::Client) tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long a call may take, all its attempts together. Longer than an election by default.
    pub deadline: Duration,
    /// How long one node may take to answer before the next is asked. A node that is stopped, but whose kernel still takes
    /// connections, costs this much.
    pub attempt_timeout: Duration,
    /// Pause after all nodes were asked in vain; doubles up to [`backoff_max`](Self::backoff_max), and is jittered.
    pub backoff: Duration,
    /// Longest such pause.
    pub backoff_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            attempt_timeout: Duration::from_millis(1500),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_millis(500),
        }
    }
}

/// Makes calls.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) targets: Targets,
    pub(crate) options: Options,
}

/// What one attempt came to.
enum Attempt<T> {
    Answered(T),
    /// An answer that no other node would give differently.
    Refused(Failure),
    /// Try again: at once at `hint`, else at the next node.
    Again {
        hint: Option<Arc<Target>>,
        pause: Duration,
    },
    /// Somebody answered who is no node of a cluster.
    Foreign,
}

/// What the attempts of a call came to so far.
struct Record {
    started: Instant,
    said: Vec<Said>,
    /// An attempt may have been carried out although its answer is missing.
    maybe_done: bool,
    /// The last refusal that was worth another try.
    last_refusal: Option<Failure>,
}

impl Caller {
    /// Makes a call. `send` is called once for each attempt, each time with the same request.
    pub(crate) async fn call<T, F, S>(&self, call: Call, send: S) -> Result<T, ClientError>
    where
        S: Fn(SchedulerClient<Channel>) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut record = Record {
            started: Instant::now(),
            said: Vec::new(),
            maybe_done: false,
            last_refusal: None,
        };
        let mut deadline = record.started + call.deadline;
        for round in 0_u32.. {
            let mut queue: VecDeque<Arc<Target>> = self.targets.in_order().into();
            let mut asked: Vec<Arc<Target>> = Vec::with_capacity(queue.len());
            let mut foreign = 0;
            let mut pause = Duration::ZERO;
            while let Some(target) = queue.pop_front() {
                if asked.iter().any(|other| Arc::ptr_eq(other, &target)) {
                    continue;
                }
                asked.push(target.clone());
                if Instant::now() >= deadline {
                    return Err(record.give_up(call));
                }
                let began = Instant::now();
                let limit = (deadline + call.poll).min(began + call.attempt_timeout + call.poll);
                let attempt = self.attempt(&target, limit, &send, &mut record).await?;
                // Time in which a node was waiting as it was asked to is not time without an answer.
                deadline += began.elapsed().min(call.poll);
                match attempt {
                    Attempt::Answered(reply) => return Ok(reply),
                    Attempt::Refused(failure) => return Err(ClientError::Refused(failure)),
                    Attempt::Again { hint, pause: asked_for } => {
                        pause = pause.max(asked_for);
                        if let Some(leader) = hint {
                            queue.push_front(leader);
                        }
                    }
                    Attempt::Foreign => foreign += 1,
                }
            }
            let wake = Instant::now() + pause.max(self.backoff(round));
            // Servers of another kind do not become nodes by waiting.
            if foreign == asked.len() || wake >= deadline {
                return Err(record.give_up(call));
            }
            tokio::time::sleep_until(wake).await;
        }
        Err(record.give_up(call))
    }

    async fn attempt<T, F, S>(
        &self,
        target: &Arc<Target>,
        limit: Instant,
        send: &S,
        record: &mut Record,
    ) -> Result<Attempt<T>, ClientError>
    where
        S: Fn(SchedulerClient<Channel>) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let began = Instant::now();
        let Ok(answer) = tokio::time::timeout_at(limit, send(target.client()?)).await else {
            let waited = began.elapsed().as_secs_f64();
            record.note(target, format!("no answer within {waited:.1} s"));
            record.maybe_done = true;
            self.targets.failed(target);
            return Ok(Attempt::Again {
                hint: None,
                pause: Duration::ZERO,
            });
        };
        match answer {
            Ok(response) => {
                self.targets.answered(target);
                if let Some(leader) = metadata::leader(response.metadata()) {
                    self.targets.learn_leader(leader);
                }
                Ok(Attempt::Answered(response.into_inner()))
            }
            Err(status) => Ok(self.judge(target, &status, record)),
        }
    }

    /// Decides what an error means: an answer, another try, or somebody who is no node.
    fn judge<T>(&self, target: &Arc<Target>, status: &Status, record: &mut Record) -> Attempt<T> {
        let Some(failure) = failure_of(status) else {
            return self.judge_foreign(target, status, record);
        };
        self.targets.answered(target);
        let leader = metadata::leader(status.metadata())
            .or(Some(failure.leader.as_str()).filter(|leader| metadata::is_address(leader)));
        let hint = leader.and_then(|leader| self.targets.learn_leader(leader));
        if !is_worth_another_try(failure.kind()) {
            return Attempt::Refused(failure);
        }
        record.note(target, failure.message.clone());
        record.maybe_done |= failure.kind() == FailureKind::OutcomeUnknown;
        let pause = Duration::from_millis(failure.retry_after_ms);
        record.last_refusal = Some(failure);
        Attempt::Again { hint, pause }
    }

    /// Decides about an error that no node made: the transport, a proxy, another service.
    fn judge_foreign<T>(&self, target: &Arc<Target>, status: &Status, record: &mut Record) -> Attempt<T> {
        record.note(target, what_happened(status));
        match status.code() {
            Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => Attempt::Foreign,
            _ => {
                let unreachable = never_sent(status);
                record.maybe_done |= !unreachable;
                self.targets.broke(target, unreachable);
                Attempt::Again {
                    hint: None,
                    pause: Duration::ZERO,
                }
            }
        }
    }

    /// Returns the pause after a round, between a half and the whole of it, so that clients do not come back together.
    pub(crate) fn backoff(&self, round: u32) -> Duration {
        let full = self
            .options
            .backoff
            .saturating_mul(1 << round.min(10))
            .min(self.options.backoff_max);
        full.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

/// The limits of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) deadline: Duration,
    pub(crate) attempt_timeout: Duration,
    /// How long a node is asked to wait before it answers; on top of the other limits.
    pub(crate) poll: Duration,
    /// It changes something, so that an unknown outcome matters.
    pub(crate) changes: bool,
}

impl Record {
    fn note(&mut self, target: &Target, what: String) {
        let endpoint = target.address.to_string();
        match self.said.iter_mut().find(|said| said.endpoint == endpoint) {
            Some(said) => said.what = what,
            None => self.said.push(Said { endpoint, what }),
        }
    }

    /// Returns the error of a call whose time is up. A refusal that asked for patience is an answer: the cluster is there.
    fn give_up(self, call: Call) -> ClientError {
        match self.last_refusal {
            Some(failure)
                if matches!(failure.kind(), FailureKind::Overloaded | FailureKind::WorkerUnreachable)
                    && !(call.changes && self.maybe_done) =>
            {
                ClientError::Refused(failure)
            }
            _ => ClientError::Unreachable {
                waited: self.started.elapsed(),
                said: self.said,
                outcome_unknown: call.changes && self.maybe_done,
            },
        }
    }
}

/// Whether the request did not even leave: there was no connection.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Returns the root of a transport error ("connection refused"), which tonic wraps several times; else what the peer said.
pub(crate) fn what_happened(status: &Status) -> String {
    let mut deepest = None;
    let mut source = status.source();
    while let Some(error) = source {
        deepest = Some(error.to_string());
        source = error.source();
    }
    match (deepest, status.code()) {
        (Some(root), _) => root,
        (None, Code::Unimplemented) => "answers, but is no scheduler node".to_owned(),
        (None, code) => {
            let said: String = status.message().chars().take(200).collect();
            format!("answers {code:?}: {said}")
        }
    }
}

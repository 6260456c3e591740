//! Many submitters over one stream: no call per task, and still each one answered, retried and never carried out twice.
//!
//! A task owns the stream and everything that is not yet answered. When the stream breaks, or a node says that another one leads,
//! it opens the next and sends the unanswered again under their keys; the cluster answers what it has already carried out.

use crate::call::{Caller, never_sent, what_happened};
use crate::error::{ClientError, Said};
use crate::request::Submission;
use crate::targets::Target;
use sched_proto::convert::{failure_of, is_worth_another_try};
use sched_proto::{metadata, v1};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Tasks under way at once. Further submitters wait: the window is the back-pressure.
const WINDOW: usize = 1024;

type Answer = Result<v1::SubmitReply, ClientError>;

/// Submits tasks for many concurrent callers over one stream. Cheap to clone; ends when the last clone is dropped and everything is
/// answered.
#[derive(Clone, Debug)]
pub struct Pipeline {
    jobs: mpsc::Sender<Job>,
    deadline: Duration,
}

#[derive(Debug)]
struct Job {
    item: v1::SubmitRequest,
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
}

/// A job that was sent, or is to be sent again.
#[derive(Debug)]
struct Pending {
    job: Job,
    sent: bool,
}

/// Why a stream was left.
enum Left {
    /// Nobody submits any more, and nothing is unanswered.
    Done,
    /// Open another.
    Broken,
}

impl Pipeline {
    pub(crate) fn start(caller: Arc<Caller>) -> Self {
        // One: jobs wait at their submitters, not here, so that a deadline counts from where it is seen.
        let (jobs, queue) = mpsc::channel(1);
        let deadline = caller.options.deadline;
        let driver = Driver {
            caller,
            queue,
            closed: false,
            pending: BTreeMap::new(),
            delayed: BTreeSet::new(),
            next_seq: 0,
            said: Vec::new(),
        };
        tokio::spawn(driver.run());
        Self { jobs, deadline }
    }

    /// Submits one task.
    ///
    /// # Errors
    ///
    /// When it is not acceptable (found here or by the cluster), or nobody answers.
    pub async fn submit(&self, submission: &Submission) -> Answer {
        let item = submission.to_wire()?;
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.deadline;
        let stopped = || ClientError::Unreachable {
            waited: Duration::ZERO,
            said: Vec::new(),
            outcome_unknown: false,
        };
        let full = |_| ClientError::Unreachable {
            waited: self.deadline,
            said: Vec::new(),
            outcome_unknown: false,
        };
        let job = Job { item, deadline, answer };
        // The driver ends only with its runtime, or after the last pipeline is dropped.
        tokio::time::timeout_at(deadline, self.jobs.send(job))
            .await
            .map_err(full)?
            .map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// The task behind a pipeline.
struct Driver {
    caller: Arc<Caller>,
    queue: mpsc::Receiver<Job>,
    /// No more jobs will come.
    closed: bool,
    /// By sequence number, and so by deadline.
    pending: BTreeMap<u64, Pending>,
    /// To be sent again at an instant, because the cluster asked for patience.
    delayed: BTreeSet<(Instant, u64)>,
    next_seq: u64,
    /// What each node said last, for whoever gets no answer.
    said: Vec<Said>,
}

type Outgoing = mpsc::Sender<v1::SubmitStreamRequest>;

impl Driver {
    async fn run(mut self) {
        let mut round = 0;
        while self.has_work().await {
            let mut reached = false;
            for target in self.caller.targets.in_order() {
                let Some((outgoing, replies)) = self.open(&target).await else {
                    continue;
                };
                reached = true;
                match self.serve(&target, outgoing, replies).await {
                    Left::Done => return,
                    // A node that is better known to lead comes before the rest of the round.
                    Left::Broken if !self.is_first(&target) => break,
                    Left::Broken => {}
                }
            }
            round = if reached { 0 } else { round + 1 };
            tokio::time::sleep(self.caller.backoff(round)).await;
            self.expire();
        }
    }

    fn is_first(&self, target: &Arc<Target>) -> bool {
        self.caller
            .targets
            .in_order()
            .first()
            .is_some_and(|first| Arc::ptr_eq(first, target))
    }

    /// Waits for the first job when there is nothing to do. False when there never will be.
    async fn has_work(&mut self) -> bool {
        if !self.pending.is_empty() {
            return true;
        }
        match self.queue.recv().await {
            Some(job) => {
                self.accept(job);
                true
            }
            None => false,
        }
    }

    fn accept(&mut self, job: Job) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.pending.insert(seq, Pending { job, sent: false });
        seq
    }

    /// Opens a stream with everything unanswered already in it: a node may not answer before it has something to read.
    async fn open(&mut self, target: &Arc<Target>) -> Option<(Outgoing, Streaming<v1::SubmitStreamReply>)> {
        let (outgoing, requests) = mpsc::channel(WINDOW + 1);
        self.delayed.clear();
        let unanswered: Vec<u64> = self.pending.keys().copied().collect();
        for seq in unanswered {
            self.send(&outgoing, seq);
        }
        let mut node = match target.client() {
            Ok(node) => node,
            Err(error) => {
                self.note(target, error.to_string());
                return None;
            }
        };
        let opened = node.submit_stream(ReceiverStream::new(requests));
        match tokio::time::timeout(self.caller.options.attempt_timeout, opened).await {
            Ok(Ok(response)) => {
                if let Some(leader) = metadata::leader(response.metadata()) {
                    self.caller.targets.learn_leader(leader);
                }
                self.caller.targets.answered(target);
                Some((outgoing, response.into_inner()))
            }
            Ok(Err(status)) => {
                self.left(target, &status);
                None
            }
            Err(_) => {
                self.note(target, "no answer".to_owned());
                self.caller.targets.failed(target);
                None
            }
        }
    }

    /// Puts a job into the stream. The channel holds the whole window, so it is never full; a closed one shows in the replies.
    fn send(&mut self, outgoing: &Outgoing, seq: u64) {
        if let Some(pending) = self.pending.get_mut(&seq) {
            pending.sent = true;
            let item = Some(pending.job.item.clone());
            let _ = outgoing.try_send(v1::SubmitStreamRequest { seq, item });
        }
    }

    async fn serve(
        &mut self,
        target: &Arc<Target>,
        outgoing: Outgoing,
        mut replies: Streaming<v1::SubmitStreamReply>,
    ) -> Left {
        let patience = self.caller.options.attempt_timeout;
        let mut progress = Instant::now();
        loop {
            if self.closed && self.pending.is_empty() {
                return Left::Done;
            }
            let alarm = self.next_alarm(progress + patience);
            tokio::select! {
                job = self.queue.recv(), if !self.closed && self.pending.len() < WINDOW => match job {
                    Some(job) => {
                        if self.pending.len() == self.delayed.len() {
                            progress = Instant::now();
                        }
                        let seq = self.accept(job);
                        self.send(&outgoing, seq);
                    }
                    None => self.closed = true,
                },
                reply = replies.message() => {
                    progress = Instant::now();
                    match reply {
                        Ok(Some(reply)) => if !self.settle(target, reply) {
                            return Left::Broken;
                        },
                        Ok(None) => {
                            self.note(target, "ended the stream".to_owned());
                            return Left::Broken;
                        }
                        Err(status) => {
                            self.left(target, &status);
                            return Left::Broken;
                        }
                    }
                }
                () = tokio::time::sleep_until(alarm) => {
                    self.expire();
                    self.send_delayed(&outgoing);
                    if self.pending.len() > self.delayed.len() && progress + patience <= Instant::now() {
                        self.note(target, format!("no answer within {:.1} s", patience.as_secs_f64()));
                        self.caller.targets.failed(target);
                        return Left::Broken;
                    }
                }
            }
        }
    }

    /// Returns when to look up: the first deadline, the first delayed job, or the end of patience with a silent node.
    fn next_alarm(&self, patience_ends: Instant) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let deadline = self.pending.values().next().map_or(far, |pending| pending.job.deadline);
        let delayed = self.delayed.first().map_or(far, |(at, _)| *at);
        let silent = if self.pending.len() > self.delayed.len() {
            patience_ends
        } else {
            far
        };
        deadline.min(delayed).min(silent)
    }

    /// Takes an answer. False when the stream leads to the wrong node.
    fn settle(&mut self, target: &Arc<Target>, reply: v1::SubmitStreamReply) -> bool {
        let answer = match reply.result.and_then(|result| result.result) {
            Some(v1::submit_result::Result::Accepted(accepted)) => Ok(accepted),
            Some(v1::submit_result::Result::Refused(failure)) => Err(failure),
            None => {
                self.note(target, "answered with an empty result".to_owned());
                return false;
            }
        };
        match answer {
            Err(failure) if is_worth_another_try(failure.kind()) => {
                self.note(target, failure.message.clone());
                if failure.kind() != v1::FailureKind::Overloaded {
                    if metadata::is_address(&failure.leader) {
                        self.caller.targets.learn_leader(&failure.leader);
                    }
                    return false;
                }
                let pause = Duration::from_millis(failure.retry_after_ms).max(self.caller.backoff(0));
                if self.pending.contains_key(&reply.seq) {
                    self.delayed.insert((Instant::now() + pause, reply.seq));
                }
            }
            answer => {
                self.delayed.retain(|(_, seq)| *seq != reply.seq);
                if let Some(pending) = self.pending.remove(&reply.seq) {
                    // A submitter that went away does not want to know.
                    let _ = pending.job.answer.send(answer.map_err(ClientError::Refused));
                }
            }
        }
        true
    }

    fn send_delayed(&mut self, outgoing: &Outgoing) {
        let now = Instant::now();
        while let Some((at, seq)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, seq));
            self.send(outgoing, seq);
        }
    }

    /// Answers the jobs whose time is up.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(first) = self
            .pending
            .first_entry()
            .filter(|first| first.get().job.deadline <= now)
        {
            let (seq, pending) = first.remove_entry();
            self.delayed.retain(|(_, delayed)| *delayed != seq);
            let _ = pending.job.answer.send(Err(ClientError::Unreachable {
                waited: self.caller.options.deadline,
                said: self.said.clone(),
                outcome_unknown: pending.sent,
            }));
        }
    }

    /// Notes a stream that could not be opened or broke.
    fn left(&mut self, target: &Arc<Target>, status: &tonic::Status) {
        match failure_of(status) {
            Some(failure) => {
                if metadata::is_address(&failure.leader) {
                    self.caller.targets.learn_leader(&failure.leader);
                }
                self.note(target, failure.message);
            }
            None => {
                self.note(target, what_happened(status));
                self.caller.targets.broke(target, never_sent(status));
            }
        }
    }

    fn note(&mut self, target: &Target, what: String) {
        tracing::debug!(endpoint = %target.address, what, "stream left");
        let endpoint = target.address.to_string();
        match self.said.iter_mut().find(|said| said.endpoint == endpoint) {
            Some(said) => said.what = what,
            None => self.said.push(Said { endpoint, what }),
        }
    }
}

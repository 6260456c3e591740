//! The typed calls.

use crate::call::{Call, Caller, Options};
use crate::endpoint::Address;
use crate::error::ClientError;
use crate::logs::{LogStream, LogsOf};
use crate::pipeline::Pipeline;
use crate::request::{MoveTo, Page, RunFilter, Start, Subject, Submission, TaskFilter, Waited, caller_key, fresh_key};
use sched_core::Timestamp;
use sched_core::ids::RunId;
use sched_core::task::TaskRef;
use sched_core::validate;
use sched_proto::convert::to_wire;
use sched_proto::limits::WAIT_MS_MAX;
use sched_proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Most addresses a client takes: a cluster has three to seven nodes.
const ENDPOINTS_MAX: usize = 64;

/// Talks to a cluster. Cheap to clone; clones share connections and what is known of the leader.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) caller: Arc<Caller>,
}

/// Makes a call whose request is the same at every attempt.
macro_rules! call {
    ($client:expr, $limits:expr, $method:ident, $request:expr) => {{
        let request = $request;
        let send = |mut node: v1::scheduler_client::SchedulerClient<tonic::transport::Channel>| {
            let request = request.clone();
            async move { node.$method(request).await }
        };
        $client.caller.call($limits, send).await
    }};
}

mod calendars;
mod definitions;
mod operator;
// Below the macro, which it uses.
mod workers;

impl Client {
    /// Returns a client of the cluster to which these addresses belong, with default [`Options`]. Nothing is sent yet:
    /// connections are made by the calls that need them.
    ///
    /// # Errors
    ///
    /// When there is no address, too many, or one that is none.
    pub fn connect<I>(endpoints: I) -> Result<Self, ClientError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::with_options(endpoints, Options::default())
    }

    /// Returns a client that tries as long and as often as told.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn with_options<I>(endpoints: I, options: Options) -> Result<Self, ClientError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let addresses = endpoints
            .into_iter()
            .map(|endpoint| Address::parse(endpoint.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() || addresses.len() > ENDPOINTS_MAX {
            return Err(ClientError::Endpoint {
                endpoint: String::new(),
                problem: format!("{} addresses given, expected 1 to {ENDPOINTS_MAX}", addresses.len()),
            });
        }
        let targets = crate::targets::Targets::new(addresses);
        Ok(Self {
            caller: Arc::new(Caller { targets, options }),
        })
    }

    /// The limits of a call that changes something.
    pub(crate) fn change(&self) -> Call {
        let Options {
            deadline,
            attempt_timeout,
            ..
        } = self.caller.options;
        Call {
            deadline,
            attempt_timeout,
            poll: Duration::ZERO,
            changes: true,
        }
    }

    /// The limits of a call that reads.
    fn read(&self) -> Call {
        Call {
            changes: false,
            ..self.change()
        }
    }

    /// The limits of a call that may work for long at one node: it is not cut short to ask the next.
    fn patient(&self, call: Call) -> Call {
        Call {
            attempt_timeout: call.deadline,
            ..call
        }
    }

    fn fresh(&self) -> Option<v1::RequestKey> {
        Some(to_wire::request_key(&fresh_key()))
    }

    /// Submits one task.
    ///
    /// # Errors
    ///
    /// When it is not acceptable (found here or by the cluster), or nobody answers.
    pub async fn submit(&self, submission: Submission) -> Result<v1::SubmitReply, ClientError> {
        call!(self, self.change(), submit, submission.to_wire()?)
    }

    pub(crate) fn nonsense(&self, problem: &str) -> ClientError {
        let endpoint = self
            .caller
            .targets
            .in_order()
            .first()
            .map(|target| target.address.to_string());
        ClientError::Protocol {
            endpoint: endpoint.unwrap_or_default(),
            problem: problem.to_owned(),
        }
    }

    /// Returns a pipeline for many concurrent submitters over one stream.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::start(self.caller.clone())
    }

    /// Takes a task out of the queue; `kill` also cancels its live runs.
    ///
    /// # Errors
    ///
    /// When there is no such task, it has ended, or nobody answers.
    pub async fn dequeue(&self, task: &TaskRef, kill: bool) -> Result<v1::TaskReply, ClientError> {
        let (request, task) = (self.fresh(), Some(to_wire::task_ref(task)));
        call!(self, self.change(), dequeue, v1::DequeueRequest { request, task, kill })
    }

    /// Gives a task a new start.
    ///
    /// # Errors
    ///
    /// When there is no such task, its schedule has no start to move, the start is past, or nobody answers.
    pub async fn move_task(&self, to: MoveTo) -> Result<v1::TaskReply, ClientError> {
        let start = match to.start {
            Start::At(at) => v1::move_request::Start::AtUnixMs(at.as_millis()),
            Start::In(delay_ms) => v1::move_request::Start::InMs(delay_ms),
        };
        let request = v1::MoveRequest {
            request: self.fresh(),
            task: Some(to_wire::task_ref(&to.task)),
            late_ok: to.late_ok,
            generation: to.generation,
            start: Some(start),
        };
        call!(self, self.change(), r#move, request)
    }

    /// Creates a run now. `key` is the caller's own request id, in the namespace `default`.
    ///
    /// # Errors
    ///
    /// When there is no such task, it has ended, a parameter is not acceptable, or nobody answers.
    pub async fn trigger(
        &self,
        task: &TaskRef,
        params: &[(String, String)],
        key: Option<&str>,
    ) -> Result<v1::RunReply, ClientError> {
        validate::params(params)?;
        let key = match key {
            Some(key) => caller_key("default", key)?,
            None => fresh_key(),
        };
        let request = v1::TriggerRequest {
            request: Some(to_wire::request_key(&key)),
            task: Some(to_wire::task_ref(task)),
            params: to_wire::params(params),
        };
        call!(self, self.change(), trigger, request)
    }

    /// Gives a failed or terminated run a new round of tries.
    ///
    /// # Errors
    ///
    /// When there is no such run, it has not failed, or nobody answers.
    pub async fn retry(&self, run: RunId) -> Result<v1::RunReply, ClientError> {
        let (request, run) = (self.fresh(), Some(to_wire::run_id(run)));
        call!(self, self.change(), retry, v1::RetryRequest { request, run })
    }

    /// Cancels a run that has not ended.
    ///
    /// # Errors
    ///
    /// When there is no such run, it has ended, or nobody answers.
    pub async fn cancel(&self, run: RunId) -> Result<v1::RunReply, ClientError> {
        let (request, run) = (self.fresh(), Some(to_wire::run_id(run)));
        call!(self, self.change(), cancel, v1::CancelRequest { request, run })
    }

    /// Stops firing a task, until it is resumed or until the given instant.
    ///
    /// # Errors
    ///
    /// When there is no such task, it has ended, or nobody answers.
    pub async fn pause(
        &self,
        task: &TaskRef,
        until: Option<Timestamp>,
        note: &str,
    ) -> Result<v1::TaskReply, ClientError> {
        validate::text("note", note)?;
        let request = v1::PauseRequest {
            request: self.fresh(),
            task: Some(to_wire::task_ref(task)),
            until_unix_ms: until.map(Timestamp::as_millis),
            note: note.to_owned(),
        };
        call!(self, self.change(), pause, request)
    }

    /// Fires a paused task again.
    ///
    /// # Errors
    ///
    /// When there is no such task, it is not paused, or nobody answers.
    pub async fn resume(&self, task: &TaskRef) -> Result<v1::TaskReply, ClientError> {
        let (request, task) = (self.fresh(), Some(to_wire::task_ref(task)));
        call!(self, self.change(), resume, v1::ResumeRequest { request, task })
    }

    /// Creates runs for the occurrences of a range that has passed, one after the other unless they may run `at_once`.
    ///
    /// # Errors
    ///
    /// When there is no such task, it does not recur, the range holds none or too many or is not over, or nobody answers.
    pub async fn backfill(
        &self,
        task: &TaskRef,
        from: Timestamp,
        to: Timestamp,
        at_once: bool,
    ) -> Result<v1::BackfillReply, ClientError> {
        let request = v1::BackfillRequest {
            request: self.fresh(),
            task: Some(to_wire::task_ref(task)),
            from_unix_ms: from.as_millis(),
            to_unix_ms: to.as_millis(),
            at_once,
        };
        call!(self, self.change(), backfill, request)
    }

    /// Says in words where a task is, why, what comes next and what could prevent it.
    ///
    /// # Errors
    ///
    /// When there is no such task, or nobody answers.
    pub async fn explain_task(&self, task: &TaskRef) -> Result<Vec<String>, ClientError> {
        let subject = v1::explain_request::Subject::Task(to_wire::task_ref(task));
        self.explain(subject).await
    }

    /// Says in words where a run is and why.
    ///
    /// # Errors
    ///
    /// When there is no such run, or nobody answers.
    pub async fn explain_run(&self, run: RunId) -> Result<Vec<String>, ClientError> {
        self.explain(v1::explain_request::Subject::Run(to_wire::run_id(run)))
            .await
    }

    async fn explain(&self, subject: v1::explain_request::Subject) -> Result<Vec<String>, ClientError> {
        let request = v1::ExplainRequest { subject: Some(subject) };
        let reply: v1::ExplainReply = call!(self, self.read(), explain, request)?;
        Ok(reply.lines)
    }

    /// Reads one task.
    ///
    /// # Errors
    ///
    /// When there is no such task, or nobody answers.
    pub async fn task(&self, task: &TaskRef) -> Result<v1::GetTaskReply, ClientError> {
        let task = Some(to_wire::task_ref(task));
        call!(self, self.read(), get_task, v1::GetTaskRequest { task })
    }

    /// Reads a page of tasks, by ascending id.
    ///
    /// # Errors
    ///
    /// When the filter or the cursor is not acceptable, or nobody answers.
    pub async fn tasks(&self, filter: &TaskFilter, page: &Page) -> Result<v1::ListTasksReply, ClientError> {
        let request = v1::ListTasksRequest {
            namespace: filter.namespace.clone(),
            states: filter
                .states
                .iter()
                .map(|state| to_wire::task_state(*state).into())
                .collect(),
            labels: filter.labels.clone(),
            limit: page.limit,
            cursor: page.cursor.clone(),
        };
        call!(self, self.read(), list_tasks, request)
    }

    /// Reads one run with the tail of its output.
    ///
    /// # Errors
    ///
    /// When there is no such run, or nobody answers.
    pub async fn run(&self, run: RunId) -> Result<v1::GetRunReply, ClientError> {
        let run = Some(to_wire::run_id(run));
        call!(self, self.read(), get_run, v1::GetRunRequest { run })
    }

    /// Reads a page of runs, newest first.
    ///
    /// # Errors
    ///
    /// When there is no such task, the cursor is not acceptable, or nobody answers.
    pub async fn runs(&self, filter: &RunFilter, page: &Page) -> Result<v1::ListRunsReply, ClientError> {
        let request = v1::ListRunsRequest {
            task: filter.task.as_ref().map(to_wire::task_ref),
            states: filter.states.iter().map(|state| (*state).into()).collect(),
            limit: page.limit,
            cursor: page.cursor.clone(),
        };
        call!(self, self.read(), list_runs, request)
    }

    /// Reads the output of a run, and follows it if so asked: the stream goes on through a change of leader, where it was.
    pub fn logs(&self, of: LogsOf) -> LogStream {
        LogStream::new(self.caller.clone(), of)
    }

    /// Waits until a task has ended, or until `timeout` has passed.
    ///
    /// # Errors
    ///
    /// When there is no such task, or nobody answers.
    pub async fn wait_task(&self, task: &TaskRef, timeout: Option<Duration>) -> Result<Waited, ClientError> {
        self.wait(Subject::Task(task.clone()), timeout).await
    }

    /// Waits until a run has ended, or until `timeout` has passed.
    ///
    /// # Errors
    ///
    /// When there is no such run, or nobody answers.
    pub async fn wait_run(&self, run: RunId, timeout: Option<Duration>) -> Result<Waited, ClientError> {
        self.wait(Subject::Run(run), timeout).await
    }

    /// Asks again and again: one poll is bounded by the node, and its deadline counts from its end.
    async fn wait(&self, subject: Subject, timeout: Option<Duration>) -> Result<Waited, ClientError> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            let poll = left.min(Duration::from_millis(WAIT_MS_MAX));
            let limits = Call { poll, ..self.read() };
            let request = v1::WaitRequest {
                subject: Some(subject.to_wire()),
                // Bounded by `WAIT_MS_MAX`; rounded up, so that the last poll does not end early and spin.
                timeout_ms: poll.as_micros().div_ceil(1000) as u64,
            };
            let began = Instant::now();
            let reply = call!(self, limits, wait, request)?;
            if reply.ended || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Waited {
                    ended: reply.ended,
                    task: reply.task,
                    run: reply.run,
                });
            }
            // A node that answers early (it is stopping, or lost its lead) must not be asked in a tight loop.
            if began.elapsed() < poll / 2 {
                tokio::time::sleep(self.caller.backoff(0).min(left)).await;
            }
        }
    }

    /// Describes the cluster.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn status(&self) -> Result<v1::StatusReply, ClientError> {
        call!(self, self.read(), status, v1::StatusRequest {})
    }

    /// Describes the members.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn nodes(&self) -> Result<v1::NodesReply, ClientError> {
        call!(self, self.read(), nodes, v1::NodesRequest {})
    }

    /// Changes who belongs to the cluster, who votes, or who leads; returns the members afterwards. What is already so is left alone.
    ///
    /// # Errors
    ///
    /// When it would cost the cluster its quorum or makes no sense, or nobody answers.
    pub async fn change_members(
        &self,
        change: v1::change_members_request::Change,
    ) -> Result<v1::NodesReply, ClientError> {
        let change = Some(change);
        call!(
            self,
            self.patient(self.change()),
            change_members,
            v1::ChangeMembersRequest { change }
        )
    }

    /// Looks for what is wrong.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn check(&self) -> Result<v1::CheckReply, ClientError> {
        call!(self, self.patient(self.read()), check, v1::CheckRequest {})
    }

    /// Reads a page of the spool, oldest first.
    ///
    /// # Errors
    ///
    /// When the cursor is not acceptable, or nobody answers.
    pub async fn spool(&self, page: &Page) -> Result<v1::ShowSpoolReply, ClientError> {
        let (limit, cursor) = (page.limit, page.cursor.clone());
        call!(self, self.read(), show_spool, v1::ShowSpoolRequest { limit, cursor })
    }

    /// Removes every operation from the spool; says how many.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn clear_spool(&self) -> Result<u64, ClientError> {
        let request = self.fresh();
        let reply = call!(
            self,
            self.patient(self.change()),
            clear_spool,
            v1::ClearSpoolRequest { request }
        )?;
        Ok(reply.removed)
    }

    /// Shuts the scheduler down: nothing is fired until it is started again.
    ///
    /// # Errors
    ///
    /// When it is shut down already, or nobody answers.
    pub async fn shutdown(&self, message: &str) -> Result<(), ClientError> {
        validate::text("message", message)?;
        let (request, message) = (self.fresh(), message.to_owned());
        call!(self, self.change(), shutdown, v1::ShutdownRequest { request, message })?;
        Ok(())
    }

    /// Starts the scheduler again.
    ///
    /// # Errors
    ///
    /// When it is running already, or nobody answers.
    pub async fn start(&self) -> Result<(), ClientError> {
        let request = self.fresh();
        call!(self, self.change(), start, v1::StartRequest { request })?;
        Ok(())
    }
}

//! A remote worker: takes the runs of a queue from the cluster and does them in this process.
//!
//! ```no_run
//! use sched_client::{Answer, Job, Worker};
//! use std::time::Duration;
//!
//! #[derive(serde::Deserialize)]
//! struct Resize {
//!     width: u32,
//! }
//!
//! async fn resize(job: Job) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
//!     // What is not as expected fails the attempt, with the error as its reason.
//!     let Resize { width } = job.json()?;
//!     if width > 10_000 {
//!         return Ok(Answer::delay_me(Duration::from_secs(60), "too large for now"));
//!     }
//!     for percent in [25, 50, 75] {
//!         job.progress(percent, "resizing");
//!         tokio::select! {
//!             () = tokio::time::sleep(Duration::from_millis(100)) => {}
//!             // Cancelled, out of time, or cut off from the cluster: the run may go elsewhere.
//!             why = job.stopped() => return Err(why.describe().into()),
//!         }
//!     }
//!     Ok(Answer::json(&serde_json::json!({"pixels": width * width}))?)
//! }
//!
//! # async fn example() -> Result<(), sched_client::ClientError> {
//! Worker::new("images")
//!     .endpoints(["http://127.0.0.1:7400", "http://127.0.0.1:7401"])
//!     .slots(4)
//!     .run(resize)
//!     .await
//! # }
//! ```
//!
//! Tasks for it are submitted with [`Action::Worker`](sched_core::task::Action::Worker), or `schedcli enqueue --queue images --payload
//! '{"width": 640}'`.
//!
//! **What is promised.** A run is done at least once: an attempt whose worker died or was cut off is given to another worker, by default
//! within 12 s. An attempt is begun at most once by a worker; its end is sent again until the cluster has recorded it. A worker that has
//! lost contact begins nothing after 4 s, tells its handlers to stop after 6 s, drops them after 8 s and has given everything up after
//! 10 s, so that an attempt elsewhere does not begin beside it. What cannot be taken back is done with the run or the token as its key
//! ([`Job::run`], [`Job::token`]).
//!
//! Tasks that ask for at-most-once delivery begin only with the cluster's word, go on without contact, and are not given to another.
//!
//! **What is not kept.** The worker has no files. A process that is started again is a new worker; what the old one held is given to
//! others when its lease of 10 s is over.
//!
//! The modules below are what remote workers share with the ones inside nodes.

mod agent;
mod attempt;
#[doc(hidden)]
pub mod contact;
mod held;
mod job;
#[doc(hidden)]
pub mod link;
mod outbox;
mod output;
#[doc(hidden)]
pub mod settled;
pub mod stop;
#[doc(hidden)]
pub mod stream;

pub use job::{Answer, IntoAnswer, Job};

use crate::endpoint::Address;
use crate::error::ClientError;
use agent::{Agent, Identity};
use attempt::Handler;
use futures::FutureExt as _;
use link::Grpc;
use sched_core::command::Reject;
use sched_core::limits::{LABELS_MAX, WORKER_QUEUES_MAX, WORKER_SLOTS_MAX};
use sched_core::validate;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

/// Where the nodes are when nobody says so: the variable, and what stands for it.
const ENDPOINT_VARIABLE: &str = "SCHED_ENDPOINT";
const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:7400";
/// Between telling a handler to stop and dropping it, unless said otherwise.
const GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// What handlers have to come to an end when the worker leaves, unless said otherwise.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(20);

/// A remote worker to be. See the [module](self).
#[derive(Clone, Debug)]
pub struct Worker {
    queues: BTreeSet<String>,
    endpoints: Option<Vec<String>>,
    name: Option<String>,
    slots: u32,
    labels: BTreeMap<String, String>,
    grace: Duration,
    patience: Duration,
}

impl Worker {
    /// Returns a worker that serves a queue, one run at a time.
    pub fn new(queue: impl Into<String>) -> Self {
        Self {
            queues: BTreeSet::from([queue.into()]),
            endpoints: None,
            name: None,
            slots: 1,
            labels: BTreeMap::new(),
            grace: GRACE_DEFAULT,
            patience: PATIENCE_DEFAULT,
        }
    }

    /// Serves another queue too; 32 in all. [`Job::queue`] tells them apart.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.insert(queue.into());
        self
    }

    /// Sets the addresses of nodes, any of which will do. Without it, the variable `SCHED_ENDPOINT` names them, separated by commas, or
    /// it is `http://127.0.0.1:7400`.
    #[must_use]
    pub fn endpoints<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.endpoints = Some(endpoints.into_iter().map(Into::into).collect());
        self
    }

    /// Sets its name, which must be unique in the cluster: `schedcli runs` shows it. Without it, it is the queue and a random number.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how many runs it does at once, 1 to 10,000.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Adds a label for tasks to select by (`--require`, `--prefer`).
    #[must_use]
    pub fn label(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// Sets what a handler that was told to stop has before it is dropped; 5 s without it. Without contact it has at most 2 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets what handlers have to come to an end by themselves when the worker leaves ([`run_until`](Self::run_until)); 20 s without it.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Works, for ever. Dropping the future drops the handlers' and gives up what they did: their runs are done elsewhere when the lease
    /// is over. [`run_until`](Self::run_until) leaves in good order.
    ///
    /// Nodes that do not answer are no error: it goes on looking for the leader.
    ///
    /// # Errors
    ///
    /// An address, a name, a label, a queue or the number of slots is not acceptable.
    pub async fn run<H, F>(self, handler: H) -> Result<(), ClientError>
    where
        H: Fn(Job) -> F + Send + Sync + 'static,
        F: Future + Send + 'static,
        F::Output: IntoAnswer,
    {
        self.run_until(pending(), handler).await
    }

    /// Works until `leave` is ready: then it takes nothing new, lets its handlers end within its patience, tells those that do not to
    /// stop, and returns when the cluster has recorded how they ended; at most some seconds after patience and grace.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_until<H, F>(
        self,
        leave: impl Future<Output = ()> + Send + 'static,
        handler: H,
    ) -> Result<(), ClientError>
    where
        H: Fn(Job) -> F + Send + Sync + 'static,
        F: Future + Send + 'static,
        F::Output: IntoAnswer,
    {
        let endpoints = self.addresses()?;
        let identity = self.identity()?;
        let handler: Handler = Arc::new(move |job| handler(job).map(IntoAnswer::into_answer).boxed());
        Agent::new(identity, handler, Arc::new(Grpc), endpoints, leave.boxed())
            .run()
            .await;
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<String>, ClientError> {
        let from_environment = || {
            let named = std::env::var(ENDPOINT_VARIABLE).unwrap_or_default();
            let named = if named.is_empty() { ENDPOINT_DEFAULT } else { &named };
            named.split(',').map(str::to_owned).collect()
        };
        let given = self.endpoints.clone().unwrap_or_else(from_environment);
        if given.is_empty() {
            return Err(ClientError::Endpoint {
                endpoint: String::new(),
                problem: "no address is given, expected at least one, for example http://127.0.0.1:7400".to_owned(),
            });
        }
        let authority = |text: &String| Address::parse(text).map(|address| address.authority);
        given.iter().map(authority).collect()
    }

    fn identity(self) -> Result<Identity, ClientError> {
        let invalid = |field: &str, problem: String| Reject::Invalid {
            field: field.to_owned(),
            problem,
        };
        for queue in &self.queues {
            validate::name("queue", queue)?;
        }
        if self.queues.len() > WORKER_QUEUES_MAX {
            let problem = format!("{} given, at most {WORKER_QUEUES_MAX}", self.queues.len());
            return Err(invalid("queues", problem).into());
        }
        if !(1..=WORKER_SLOTS_MAX).contains(&self.slots) {
            let problem = format!("{}; expected 1 to {WORKER_SLOTS_MAX}", self.slots);
            return Err(invalid("slots", problem).into());
        }
        if self.labels.len() > LABELS_MAX {
            let problem = format!("{} given, at most {LABELS_MAX}", self.labels.len());
            return Err(invalid("labels", problem).into());
        }
        for (label, value) in &self.labels {
            validate::name("labels", label)?;
            validate::text("labels", value)?;
        }
        let first = self.queues.first().cloned().unwrap_or_default();
        let name = self.name.unwrap_or_else(|| {
            let mark: u64 = rand::random();
            // The longest name of a queue leaves room for it.
            format!("{}-{mark:016x}", first.chars().take(48).collect::<String>())
        });
        validate::name("worker", &name)?;
        Ok(Identity {
            name,
            journal: rand::random(),
            queues: self.queues,
            slots: self.slots,
            labels: self.labels,
            grace: self.grace,
            patience: self.patience,
        })
    }
}

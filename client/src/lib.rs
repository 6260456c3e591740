//! The client: finds the leader, retries safely, typed calls.
//!
//! A [`Client`] is given the addresses of some nodes. It sends each call to the leader, which it learns from the answers, and goes
//! round the other nodes while the leader does not answer. A call that changes something carries a request key that stays the
//! same over all its retries, so that it is carried out at most once however often it is sent.
//!
//! ```no_run
//! # async fn example() -> Result<(), sched_client::ClientError> {
//! use sched_client::{Client, Submission};
//! use sched_core::schedule::Schedule;
//! use sched_core::task::{Action, TaskSpec};
//!
//! let client = Client::connect(["http://127.0.0.1:7400", "http://127.0.0.1:7401"])?;
//! let sample = Action::Sample { succeed: true, duration_ms: 0, payload: Vec::new() };
//! let task = sched_client::task(Schedule::In { delay_ms: 1_000 }, sample);
//! let accepted = client.submit(Submission::new(task)).await?;
//! println!("task {}", accepted.id);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Worker`] takes the runs of a queue and does them in this process: see [`worker`].
//!
//! What the client does not do: a call whose outcome stays unknown is reported as such ([`ClientError::Unreachable`]), never guessed. The
//! key of such a call is lost with the client; a caller who must repeat it after a restart gives a key of its own
//! ([`Submission::key`]).
#![forbid(unsafe_code)]

mod batch;
mod call;
mod client;
mod clock;
mod endpoint;
mod error;
mod logs;
mod pipeline;
mod request;
mod targets;
#[cfg(feature = "testing")]
pub mod testing;
pub mod worker;

pub use call::Options;
pub use client::Client;
pub use error::{ClientError, Said};
pub use logs::{LogStream, LogsOf};
pub use pipeline::Pipeline;
pub use request::{Ended, MoveTo, Page, RunFilter, Start, Submission, TaskFilter, Update, Waited, task};
pub use sched_proto::v1;
pub use worker::{Answer, IntoAnswer, Job, Worker};

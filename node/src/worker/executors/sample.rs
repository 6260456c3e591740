//! `sample`: sleeps, then succeeds or fails as told.

use super::{Executor, Outcome};
use crate::worker::output::OutputWriter;
use crate::worker::stop::{StopSignal, Urgency};
use crate::worker::wire::Job;
use futures::FutureExt;
use futures::future::BoxFuture;
use sched_core::task::Action;
use std::time::Duration;

/// For demos and tests.
#[derive(Debug, Default)]
pub struct SampleExecutor;

impl Executor for SampleExecutor {
    fn execute<'a>(
        &'a self,
        job: &'a Job,
        stop: &'a mut StopSignal,
        _output: &'a mut OutputWriter,
    ) -> BoxFuture<'a, Outcome> {
        async move {
            let Action::Sample {
                succeed, duration_ms, ..
            } = &job.action
            else {
                return Outcome::failure(format!("not a sample: {}", job.action.kind()));
            };
            if *duration_ms > 0 {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(*duration_ms)) => {}
                    () = stop.reached(Urgency::Terminate) => return Outcome::stopped(),
                }
            }
            if *succeed {
                Outcome::success()
            } else {
                Outcome::failure("told to fail")
            }
        }
        .boxed()
    }
}

//! Many tasks at once: in one batch, or batch after batch.

use crate::client::Client;
use crate::error::ClientError;
use crate::request::Submission;
use futures::{Stream, StreamExt as _};
use sched_proto::convert::{self, is_worth_another_try};
use sched_proto::limits::{BATCH_BYTES_TARGET, SUBMIT_MANY_ITEMS_MAX};
use sched_proto::v1;
use std::sync::{Mutex, PoisonError};

/// Batches of [`Client::submit_all`] under way at once: enough to keep a leader busy while one answer travels.
const BATCHES_IN_FLIGHT: usize = 4;

impl Client {
    /// Submits tasks in one batch, each on its own: the results are in their order.
    ///
    /// # Errors
    ///
    /// When nothing was answered at all. What is wrong with one task stands in its own result; so does an error that met the rest of the
    /// tasks after some were answered.
    pub async fn submit_many(
        &self,
        submissions: &[Submission],
    ) -> Result<Vec<Result<v1::SubmitReply, ClientError>>, ClientError> {
        let mut results: Vec<Option<Result<v1::SubmitReply, ClientError>>> = Vec::with_capacity(submissions.len());
        let mut items = Vec::with_capacity(submissions.len());
        for submission in submissions {
            match submission.to_wire() {
                Ok(item) => {
                    items.push(item);
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(batch_len(rest));
            match self.submit_batch(batch).await {
                Ok(results) => answers.extend(results),
                // What was answered before stands: who repeated it under new keys would have those tasks twice.
                Err(error) if !answers.is_empty() => {
                    answers.extend(rest.iter().map(|_| Err(error.clone())));
                    break;
                }
                Err(error) => return Err(error),
            }
            rest = after;
        }
        let mut answers = answers.into_iter();
        let in_order = |result: Option<_>| {
            result
                .or_else(|| answers.next())
                .unwrap_or_else(|| Err(self.nonsense("an item has no result")))
        };
        Ok(results.into_iter().map(in_order).collect())
    }

    async fn submit_batch(
        &self,
        batch: &[v1::SubmitRequest],
    ) -> Result<Vec<Result<v1::SubmitReply, ClientError>>, ClientError> {
        let request = v1::SubmitManyRequest { items: batch.to_vec() };
        // What a node said last of each item: what it accepted stays accepted when the others run out of time.
        let last: Mutex<Option<v1::SubmitManyReply>> = Mutex::default();
        let send = |mut node: v1::scheduler_client::SchedulerClient<tonic::transport::Channel>| {
            let (request, last) = (request.clone(), &last);
            async move {
                let reply = node.submit_many(request).await?;
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply.get_ref().clone());
                // An item that a node could not decide about is no more refused than a call that it could not take: the batch goes to
                // the next node. Under the same request keys, what was accepted is answered as before.
                match reply.get_ref().results.iter().find_map(undecided) {
                    Some(failure) => Err(convert::status(failure)),
                    None => Ok(reply),
                }
            }
        };
        let reply = match self.caller.call(self.change(), send).await {
            Ok(reply) => reply,
            Err(error) => {
                let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
                let reply = last
                    .filter(|last| last.results.len() == batch.len())
                    .ok_or(error.clone())?;
                let outcome = |result: v1::SubmitResult| match (undecided(&result).is_none(), result.result) {
                    (true, Some(v1::submit_result::Result::Accepted(accepted))) => Ok(accepted),
                    (true, Some(v1::submit_result::Result::Refused(failure))) => Err(ClientError::Refused(failure)),
                    _ => Err(error.clone()),
                };
                return Ok(reply.results.into_iter().map(outcome).collect());
            }
        };
        if reply.results.len() != batch.len() {
            let (got, sent) = (reply.results.len(), batch.len());
            return Err(self.nonsense(&format!("{got} results for {sent} tasks")));
        }
        let outcome = |result: v1::SubmitResult| match result.result {
            Some(v1::submit_result::Result::Accepted(accepted)) => Ok(accepted),
            Some(v1::submit_result::Result::Refused(failure)) => Err(ClientError::Refused(failure)),
            None => Err(self.nonsense("a result is empty")),
        };
        Ok(reply.results.into_iter().map(outcome).collect())
    }

    /// Submits a stream of tasks in batches, some of them under way at once, and returns the results in order.
    ///
    /// Each result stands for the task at the same place of the input. A batch that got no answer gives its error to each of its
    /// tasks, and the stream goes on: whether to stop is the caller's decision.
    pub fn submit_all<S>(&self, submissions: S) -> impl Stream<Item = Result<v1::SubmitReply, ClientError>>
    where
        S: Stream<Item = Submission>,
    {
        submissions
            .ready_chunks(SUBMIT_MANY_ITEMS_MAX)
            .map(move |batch| async move {
                match self.submit_many(&batch).await {
                    Ok(results) => results,
                    Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
                }
            })
            .buffered(BATCHES_IN_FLIGHT)
            .flat_map(futures::stream::iter)
    }
}

/// Returns how many of the items make one batch: bounded in number and in bytes, at least one.
fn batch_len(items: &[v1::SubmitRequest]) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take(SUBMIT_MANY_ITEMS_MAX).take_while(|item| {
        bytes += prost_len(item);
        bytes <= BATCH_BYTES_TARGET
    });
    fits.count().max(1)
}

fn prost_len(item: &v1::SubmitRequest) -> usize {
    use prost::Message as _;
    item.encoded_len()
}

/// Returns why an item of a batch is neither accepted nor refused for good.
fn undecided(result: &v1::SubmitResult) -> Option<&v1::Failure> {
    match &result.result {
        Some(v1::submit_result::Result::Refused(failure)) if is_worth_another_try(failure.kind()) => Some(failure),
        _ => None,
    }
}

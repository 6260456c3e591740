//! Calls about workers.

use super::Client;
use crate::error::ClientError;
use crate::request::Page;
use sched_core::validate;
use sched_proto::v1;

impl Client {
    /// Reads workers by ascending name: those that are there, and those that are drained.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn workers(&self, page: &Page) -> Result<v1::WorkersReply, ClientError> {
        let (limit, cursor) = (page.limit, page.cursor.clone());
        call!(self, self.read(), workers, v1::WorkersRequest { limit, cursor })
    }

    /// Gives a worker no new runs, also when it comes back; what it has goes on. One that is drained stays so, with its first note.
    ///
    /// # Errors
    ///
    /// When there is no such worker, or nobody answers.
    pub async fn drain_worker(&self, worker: &str, note: &str) -> Result<(), ClientError> {
        validate::name("worker", worker)?;
        validate::text("note", note)?;
        let request = v1::DrainWorkerRequest {
            request: self.fresh(),
            worker: worker.to_owned(),
            note: note.to_owned(),
        };
        call!(self, self.change(), drain_worker, request)?;
        Ok(())
    }

    /// Gives a worker runs again.
    ///
    /// # Errors
    ///
    /// When it is neither there nor drained, or nobody answers.
    pub async fn undrain_worker(&self, worker: &str) -> Result<(), ClientError> {
        validate::name("worker", worker)?;
        let (request, worker) = (self.fresh(), worker.to_owned());
        call!(
            self,
            self.change(),
            undrain_worker,
            v1::UndrainWorkerRequest { request, worker }
        )?;
        Ok(())
    }
}

//! Calls that change definitions and history: of a task as a whole, of what is kept of it, and of the cluster's settings.

use super::Client;
use crate::error::ClientError;
use crate::request::{Ended, Update, caller_key, fresh_key};
use sched_core::Timestamp;
use sched_core::task::TaskRef;
use sched_proto::convert::to_wire;
use sched_proto::v1;

impl Client {
    /// Gives a task another definition. `key` is the caller's own request id, in the task's namespace.
    ///
    /// # Errors
    ///
    /// When it is not acceptable (found here or by the cluster), there is no such task, it has ended, it is at another generation, or
    /// nobody answers.
    pub async fn update(&self, update: Update, key: Option<&str>) -> Result<v1::TaskReply, ClientError> {
        let key = match key {
            Some(key) => caller_key(&update.spec.namespace, key)?,
            None => fresh_key(),
        };
        let request = v1::UpdateRequest {
            request: Some(to_wire::request_key(&key)),
            ..update.to_wire()?
        };
        call!(self, self.change(), update, request)
    }

    /// Deletes ended runs of a task, and lines of its ledger unless `ended` asks for some runs only; `before` spares what is younger.
    ///
    /// # Errors
    ///
    /// When there is no such task, or nobody answers.
    pub async fn delete_history(
        &self,
        task: &TaskRef,
        before: Option<Timestamp>,
        ended: Option<Ended>,
    ) -> Result<v1::DeleteHistoryReply, ClientError> {
        let request = v1::DeleteHistoryRequest {
            request: self.fresh(),
            task: Some(to_wire::task_ref(task)),
            before_unix_ms: before.map(Timestamp::as_millis),
            state: match ended {
                None => v1::RunState::Unspecified,
                Some(Ended::Finished) => v1::RunState::Finished,
                Some(Ended::Failed) => v1::RunState::Failed,
            }
            .into(),
        };
        call!(self, self.patient(self.change()), delete_history, request)
    }

    /// Reads the settings of the cluster.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn config(&self) -> Result<Vec<v1::Setting>, ClientError> {
        let reply = call!(self, self.read(), get_config, v1::GetConfigRequest {})?;
        Ok(reply.settings)
    }

    /// Changes settings of the cluster, and returns all of them. What is `unset` gets the value that is built in.
    ///
    /// # Errors
    ///
    /// When a key is not known or a value not acceptable (found here or by the cluster), or nobody answers.
    pub async fn set_config(
        &self,
        set: &[(String, String)],
        unset: &[String],
    ) -> Result<Vec<v1::Setting>, ClientError> {
        let set = to_wire::params(set);
        sched_proto::convert::from_wire::config_change(&set, unset)?;
        let request = v1::SetConfigRequest {
            request: self.fresh(),
            set,
            unset: unset.to_vec(),
        };
        let reply = call!(self, self.change(), set_config, request)?;
        Ok(reply.settings)
    }
}

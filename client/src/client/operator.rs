//! What operators say when the cluster cannot know.

use super::Client;
use crate::error::ClientError;
use sched_core::Timestamp;
use sched_core::command::Resolution;
use sched_core::ids::RunId;
use sched_proto::convert::to_wire;
use sched_proto::v1;

impl Client {
    /// Says what became of a LOST run, whose worker does not tell.
    ///
    /// # Errors
    ///
    /// When there is no such run, it is not LOST, or nobody answers.
    pub async fn resolve(&self, run: RunId, resolution: Resolution) -> Result<v1::RunReply, ClientError> {
        let (request, run) = (self.fresh(), Some(to_wire::run_id(run)));
        let resolution = to_wire::resolution(resolution).into();
        call!(
            self,
            self.change(),
            resolve,
            v1::ResolveRequest {
                request,
                run,
                resolution
            }
        )
    }

    /// Takes back the time of the state, which a leader with a wrong clock has set far ahead. Returns the time it is now.
    ///
    /// # Errors
    ///
    /// When it is not ahead of the clocks of a majority, or nobody answers.
    pub async fn reset_clock(&self) -> Result<Timestamp, ClientError> {
        let request = self.fresh();
        let reply = call!(self, self.change(), reset_clock, v1::ResetClockRequest { request })?;
        Ok(Timestamp::from_millis(reply.now_unix_ms))
    }
}

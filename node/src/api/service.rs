//! The service of clients: each call is one line here, and a function beside it.

use super::{calendars, changes, check, definitions, errors, lists, logs, members, overview, reads, submit, workers};
use crate::shared::Shared;
use futures::Stream;
use sched_proto::v1::scheduler_server::Scheduler;
use sched_proto::v1::*;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

/// The service behind the gate.
pub(super) struct Api {
    shared: Arc<Shared>,
    /// Calls that last as long as the caller likes.
    long: Arc<Semaphore>,
}

impl Api {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let long = Arc::new(Semaphore::new(shared.config.calls_max as usize));
        Self { shared, long }
    }

    fn long(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.long.clone().try_acquire_owned().map_err(|_| {
            self.shared.counters.overloaded.add(1);
            errors::overloaded("too many waiting or streaming calls are in progress on this node", 1000)
        })
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Scheduler for Api {
    type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<SubmitStreamReply, Status>> + Send>>;
    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogsChunk, Status>> + Send>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Answer<SubmitReply> {
        submit::one(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn submit_many(&self, request: Request<SubmitManyRequest>) -> Answer<SubmitManyReply> {
        submit::many(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitStreamRequest>>,
    ) -> Answer<Self::SubmitStreamStream> {
        let permit = self.long()?;
        Ok(Response::new(Box::pin(submit::streamed(
            self.shared.clone(),
            request.into_inner(),
            permit,
        ))))
    }

    async fn dequeue(&self, request: Request<DequeueRequest>) -> Answer<TaskReply> {
        changes::dequeue(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Answer<TaskReply> {
        changes::move_task(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn trigger(&self, request: Request<TriggerRequest>) -> Answer<RunReply> {
        changes::trigger(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn retry(&self, request: Request<RetryRequest>) -> Answer<RunReply> {
        changes::retry(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Answer<RunReply> {
        changes::resolve(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn reset_clock(&self, request: Request<ResetClockRequest>) -> Answer<ResetClockReply> {
        changes::reset_clock(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Answer<RunReply> {
        changes::cancel(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<TaskReply> {
        changes::pause(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Answer<TaskReply> {
        changes::resume(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn backfill(&self, call: Request<BackfillRequest>) -> Answer<BackfillReply> {
        Ok(Response::new(changes::backfill(&self.shared, call.into_inner()).await?))
    }

    async fn update(&self, call: Request<UpdateRequest>) -> Answer<TaskReply> {
        Ok(Response::new(
            definitions::update(&self.shared, call.into_inner()).await?,
        ))
    }

    async fn delete_history(&self, call: Request<DeleteHistoryRequest>) -> Answer<DeleteHistoryReply> {
        Ok(Response::new(
            definitions::delete_history(&self.shared, call.into_inner()).await?,
        ))
    }

    async fn get_config(&self, _: Request<GetConfigRequest>) -> Answer<ConfigReply> {
        Ok(Response::new(definitions::get_config(&self.shared).await?))
    }

    async fn set_config(&self, call: Request<SetConfigRequest>) -> Answer<ConfigReply> {
        Ok(Response::new(
            definitions::set_config(&self.shared, call.into_inner()).await?,
        ))
    }

    async fn explain(&self, call: Request<ExplainRequest>) -> Answer<ExplainReply> {
        Ok(Response::new(reads::explain(&self.shared, call.into_inner()).await?))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Answer<GetTaskReply> {
        reads::get_task(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Answer<ListTasksReply> {
        lists::tasks(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Answer<GetRunReply> {
        reads::get_run(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Answer<ListRunsReply> {
        lists::runs(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        let permit = self.long()?;
        let stream = logs::stream(self.shared.clone(), request.into_inner(), permit).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<WaitReply> {
        let _permit = self.long()?;
        reads::wait(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        Ok(Response::new(overview::status(&self.shared, request.metadata()).await))
    }

    async fn nodes(&self, request: Request<NodesRequest>) -> Answer<NodesReply> {
        Ok(Response::new(overview::nodes(&self.shared, request.metadata()).await))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Answer<CheckReply> {
        check::check(&self.shared, request.metadata()).await.map(Response::new)
    }

    async fn show_spool(&self, request: Request<ShowSpoolRequest>) -> Answer<ShowSpoolReply> {
        lists::spool(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn clear_spool(&self, request: Request<ClearSpoolRequest>) -> Answer<ClearSpoolReply> {
        changes::clear_spool(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownReply> {
        changes::shutdown(&self.shared, request.into_inner()).await?;
        Ok(Response::new(ShutdownReply {}))
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<StartReply> {
        changes::start(&self.shared, request.into_inner()).await?;
        Ok(Response::new(StartReply {}))
    }

    async fn change_members(&self, call: Request<ChangeMembersRequest>) -> Answer<NodesReply> {
        members::change(&self.shared, call.into_inner()).await?;
        Ok(Response::new(overview::members_now(&self.shared)))
    }

    async fn workers(&self, call: Request<WorkersRequest>) -> Answer<WorkersReply> {
        Ok(Response::new(workers::list(&self.shared, call.into_inner()).await?))
    }

    async fn drain_worker(&self, call: Request<DrainWorkerRequest>) -> Answer<DrainWorkerReply> {
        changes::drain_worker(&self.shared, call.into_inner()).await?;
        Ok(Response::new(DrainWorkerReply {}))
    }

    async fn undrain_worker(&self, call: Request<UndrainWorkerRequest>) -> Answer<UndrainWorkerReply> {
        changes::undrain_worker(&self.shared, call.into_inner()).await?;
        Ok(Response::new(UndrainWorkerReply {}))
    }

    async fn set_calendar(&self, call: Request<SetCalendarRequest>) -> Answer<SetCalendarReply> {
        Ok(Response::new(calendars::set(&self.shared, call.into_inner()).await?))
    }

    async fn delete_calendar(&self, call: Request<DeleteCalendarRequest>) -> Answer<DeleteCalendarReply> {
        Ok(Response::new(calendars::delete(&self.shared, call.into_inner()).await?))
    }

    async fn get_calendar(&self, call: Request<GetCalendarRequest>) -> Answer<GetCalendarReply> {
        Ok(Response::new(calendars::get(&self.shared, call.into_inner()).await?))
    }

    async fn list_calendars(&self, call: Request<ListCalendarsRequest>) -> Answer<ListCalendarsReply> {
        Ok(Response::new(calendars::list(&self.shared, call.into_inner()).await?))
    }
}

//! The service of one node of a [`FakeCluster`](super::FakeCluster).

use super::work::{no_calendar, pieces};
use super::{Fault, State, lock};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sched_proto::convert::{self, failure, from_wire, not_leader, status, to_wire};
use sched_proto::v1::scheduler_server::Scheduler;
use sched_proto::{metadata, v1};
use std::sync::{Arc, Mutex};
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

pub(super) struct Node {
    pub(super) node: usize,
    pub(super) state: Arc<Mutex<State>>,
}

impl Node {
    /// Notes a call and makes the trouble that is due, then lets `work` do what the call says.
    async fn handle<T>(&self, name: &str, work: impl FnOnce(&mut State) -> Result<T, v1::Failure>) -> Answer<T> {
        let fault = {
            let mut state = lock(&self.state);
            state.received.push(name.to_owned());
            let of_call = state.faults_of_calls.iter().position(|(call, _)| call == name);
            match of_call {
                Some(index) => Some(state.faults_of_calls.remove(index).1),
                None => state.faults[self.node].pop_front(),
            }
        };
        let carried_out = match &fault {
            None | Some(Fault::AnswerLost | Fault::AnswerBroken) => Some(self.answer(work)),
            _ => None,
        };
        match fault {
            None => {}
            Some(Fault::AnswerBroken) => return Err(Status::unknown("stream broken")),
            Some(Fault::AnswerLost | Fault::Hang) => std::future::pending().await,
            Some(Fault::Refuse(failure)) => return Err(status(&failure)),
            Some(Fault::Foreign(code)) => return Err(Status::new(code, "from elsewhere")),
        }
        carried_out.unwrap_or_else(|| Err(Status::internal("no answer was made")))
    }

    fn answer<T>(&self, work: impl FnOnce(&mut State) -> Result<T, v1::Failure>) -> Answer<T> {
        let mut state = lock(&self.state);
        let leader = state.leader.map(|leader| state.addresses[leader].to_string());
        if state.leader != Some(self.node) {
            return Err(status(&not_leader(leader.as_deref())));
        }
        let mut response = Response::new(work(&mut state).map_err(|failure| status(&failure))?);
        if let Some(leader) = leader {
            metadata::set_leader(response.metadata_mut(), &leader);
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl Scheduler for Node {
    type SubmitStreamStream = BoxStream<'static, Result<v1::SubmitStreamReply, Status>>;
    type LogsStream = BoxStream<'static, Result<v1::LogsChunk, Status>>;

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitReply> {
        self.handle("submit", |state| state.submit(request.get_ref())).await
    }

    async fn submit_many(&self, request: Request<v1::SubmitManyRequest>) -> Answer<v1::SubmitManyReply> {
        self.handle("submit_many", |state| {
            if let Some(failure) = state.item_refusals.pop_front() {
                let result = v1::SubmitResult {
                    result: Some(v1::submit_result::Result::Refused(failure)),
                };
                return Ok(v1::SubmitManyReply {
                    results: vec![result; request.get_ref().items.len()],
                });
            }
            let result = |item| v1::SubmitResult {
                result: Some(match state.submit(item) {
                    Ok(accepted) => v1::submit_result::Result::Accepted(accepted),
                    Err(refused) => v1::submit_result::Result::Refused(refused),
                }),
            };
            Ok(v1::SubmitManyReply {
                results: request.get_ref().items.iter().map(result).collect(),
            })
        })
        .await
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Answer<Self::SubmitStreamStream> {
        let node = Self {
            node: self.node,
            state: self.state.clone(),
        };
        let requests = request.into_inner();
        let replies = futures::stream::unfold((node, requests), |(node, mut requests)| async move {
            let request = requests.message().await.ok()??;
            let item = request.item.unwrap_or_default();
            let reply = match node.handle("submit", |state| state.submit(&item)).await {
                Ok(accepted) => Ok(v1::submit_result::Result::Accepted(accepted.into_inner())),
                Err(status) => match sched_proto::convert::failure_of(&status) {
                    Some(failure) => Ok(v1::submit_result::Result::Refused(failure)),
                    None => Err(status),
                },
            };
            let reply = reply.map(|result| v1::SubmitStreamReply {
                seq: request.seq,
                result: Some(v1::SubmitResult { result: Some(result) }),
            });
            Some((reply, (node, requests)))
        });
        Ok(Response::new(replies.boxed()))
    }

    async fn dequeue(&self, request: Request<v1::DequeueRequest>) -> Answer<v1::TaskReply> {
        let request = request.into_inner();
        self.handle("dequeue", |state| {
            state.task(request.task.clone())?.state = v1::TaskState::Terminated.into();
            state.changed(if request.kill { "dequeue --kill" } else { "dequeue" }, request.task)
        })
        .await
    }

    async fn r#move(&self, request: Request<v1::MoveRequest>) -> Answer<v1::TaskReply> {
        let request = request.into_inner();
        self.handle("move", |state| {
            if let Some(v1::move_request::Start::AtUnixMs(at)) = request.start {
                let next = Some(v1::next_run::Next::AtUnixMs(at));
                state.task(request.task.clone())?.next_run = Some(v1::NextRun { next });
            }
            state.changed("move", request.task)
        })
        .await
    }

    async fn trigger(&self, request: Request<v1::TriggerRequest>) -> Answer<v1::RunReply> {
        let request = request.into_inner();
        self.handle("trigger", |state| {
            let task = state.changed("run", request.task)?.id;
            let run = Some(v1::RunId { task, number: 1 });
            Ok(v1::RunReply { run, task })
        })
        .await
    }

    async fn retry(&self, request: Request<v1::RetryRequest>) -> Answer<v1::RunReply> {
        self.handle("retry", |state| state.run_changed("retry", request.get_ref().run))
            .await
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Answer<v1::RunReply> {
        self.handle("resolve", |state| state.run_changed("resolve", request.get_ref().run))
            .await
    }

    async fn reset_clock(&self, _: Request<v1::ResetClockRequest>) -> Answer<v1::ResetClockReply> {
        self.handle("reset-clock", |state| {
            state.carried_out.push("reset-clock".to_owned());
            Ok(v1::ResetClockReply { now_unix_ms: 0 })
        })
        .await
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::RunReply> {
        self.handle("cancel", |state| state.run_changed("cancel", request.get_ref().run))
            .await
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Answer<v1::TaskReply> {
        self.handle("pause", |state| state.changed("pause", request.into_inner().task))
            .await
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<v1::TaskReply> {
        self.handle("resume", |state| state.changed("resume", request.into_inner().task))
            .await
    }

    async fn backfill(&self, request: Request<v1::BackfillRequest>) -> Answer<v1::BackfillReply> {
        self.handle("backfill", |state| {
            let task = state.changed("backfill", request.into_inner().task)?.id;
            let run = |number| v1::RunId { task, number };
            Ok(v1::BackfillReply {
                runs: vec![run(1), run(2)],
            })
        })
        .await
    }

    async fn update(&self, request: Request<v1::UpdateRequest>) -> Answer<v1::TaskReply> {
        let request = request.into_inner();
        self.handle("update", |state| {
            let task = state.task(request.task.clone())?;
            if task.generation != request.generation {
                let what = format!("task {} is at generation {}", task.id, task.generation);
                return Err(failure(v1::FailureKind::Conflict, what));
            }
            task.generation += 1;
            task.spec = request.spec;
            state.changed("update", request.task)
        })
        .await
    }

    async fn delete_history(&self, request: Request<v1::DeleteHistoryRequest>) -> Answer<v1::DeleteHistoryReply> {
        let request = request.into_inner();
        self.handle("delete history", |state| {
            let (before, ended) = (request.before_unix_ms, request.state());
            let id = state.task(request.task)?.id;
            let what = format!("delete-history {id} before {before:?} {}", ended.as_str_name());
            state.carried_out.push(what);
            Ok(v1::DeleteHistoryReply {
                runs: 3,
                ledger_lines: state.ledger.len() as u64,
            })
        })
        .await
    }

    async fn get_config(&self, _: Request<v1::GetConfigRequest>) -> Answer<v1::ConfigReply> {
        self.handle("get config", |state| Ok(to_wire::config(&state.config)))
            .await
    }

    async fn set_config(&self, request: Request<v1::SetConfigRequest>) -> Answer<v1::ConfigReply> {
        let request = request.into_inner();
        self.handle("set config", |state| {
            let (set, unset) =
                from_wire::config_change(&request.set, &request.unset).map_err(|reject| convert::reject(&reject))?;
            unset.into_iter().for_each(|setting| state.config.unset(setting));
            state.config.merge(&set);
            state.carried_out.push("set config".to_owned());
            Ok(to_wire::config(&state.config))
        })
        .await
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answer<v1::ExplainReply> {
        self.handle("explain", |state| {
            let line = match request.into_inner().subject {
                Some(v1::explain_request::Subject::Run(run)) => {
                    let run = state.run(Some(run))?;
                    format!("Run {:?} is {:?}.", run.id, run.state())
                }
                Some(v1::explain_request::Subject::Task(task)) => {
                    let task = state.task(Some(task))?;
                    format!("Task {} is {:?}.", task.id, task.state())
                }
                None => "There is no subject.".to_owned(),
            };
            Ok(v1::ExplainReply { lines: vec![line] })
        })
        .await
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Answer<v1::GetTaskReply> {
        self.handle("get_task", |state| {
            Ok(v1::GetTaskReply {
                task: Some(state.task(request.into_inner().task)?.clone()),
                ledger: state.ledger.clone(),
            })
        })
        .await
    }

    async fn list_tasks(&self, request: Request<v1::ListTasksRequest>) -> Answer<v1::ListTasksReply> {
        let request = request.into_inner();
        self.handle("list_tasks", |state| {
            let after = request.cursor.parse().unwrap_or(0);
            let limit = if request.limit == 0 { 100 } else { request.limit } as usize;
            let wanted = |task: &&v1::Task| request.states.is_empty() || request.states.contains(&task.state);
            let mut tasks: Vec<_> = state
                .tasks
                .range(after + 1..)
                .map(|(_, task)| task)
                .filter(wanted)
                .cloned()
                .collect();
            let more = tasks.len() > limit;
            tasks.truncate(limit);
            let cursor = tasks
                .last()
                .filter(|_| more)
                .map(|last| last.id.to_string())
                .unwrap_or_default();
            Ok(v1::ListTasksReply { tasks, cursor })
        })
        .await
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Answer<v1::GetRunReply> {
        self.handle("get_run", |state| {
            Ok(v1::GetRunReply {
                run: Some(state.run(request.get_ref().run)?),
                output_tail: state.output.clone().into(),
                result: bytes::Bytes::new(),
            })
        })
        .await
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Answer<v1::ListRunsReply> {
        self.handle("list_runs", |state| {
            if request.get_ref().task.is_some() {
                state.task(request.get_ref().task.clone())?;
            }
            let states = &request.get_ref().states;
            let wanted = |run: &&v1::Run| states.is_empty() || states.contains(&run.state);
            let runs = state.runs.values().rev().filter(wanted).cloned().collect();
            Ok(v1::ListRunsReply {
                runs,
                cursor: String::new(),
            })
        })
        .await
    }

    /// Sends the output in pieces of four bytes, and breaks off where it was told to.
    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answer<Self::LogsStream> {
        let request = request.into_inner();
        let state = self.state.clone();
        let pieces = move |shared: &mut State| {
            shared.run(request.run)?;
            Ok(pieces(shared, request.offset as usize))
        };
        let pieces = self.handle("logs", pieces).await?.into_inner();
        // Broken once: the next stream goes through.
        lock(&state).output_breaks_at = None;
        Ok(Response::new(futures::stream::iter(pieces).boxed()))
    }

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Answer<v1::WaitReply> {
        let request = request.into_inner();
        self.handle("wait", |state| match request.subject {
            Some(v1::wait_request::Subject::Task(task)) => {
                let task = state.task(Some(task))?.clone();
                let run = state
                    .runs
                    .range((task.id, 0)..=(task.id, u64::MAX))
                    .next_back()
                    .map(|(_, run)| run.clone());
                let ended = task.state >= v1::TaskState::Failed.into();
                Ok(v1::WaitReply {
                    ended,
                    task: Some(task),
                    run,
                })
            }
            Some(v1::wait_request::Subject::Run(run)) => {
                let run = state.run(Some(run))?;
                let ended = run.state >= v1::RunState::Finished.into();
                Ok(v1::WaitReply {
                    ended,
                    task: None,
                    run: Some(run),
                })
            }
            None => Err(failure(v1::FailureKind::Invalid, "nothing to wait for")),
        })
        .await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusReply> {
        self.handle("status", |state| Ok(state.status.clone())).await
    }

    async fn nodes(&self, _: Request<v1::NodesRequest>) -> Answer<v1::NodesReply> {
        self.handle("nodes", |state| {
            Ok(v1::NodesReply {
                nodes: state.status.nodes.clone(),
                confirmed: true,
            })
        })
        .await
    }

    /// Remembers nothing: who votes is not this cluster's to know.
    async fn change_members(&self, _: Request<v1::ChangeMembersRequest>) -> Answer<v1::NodesReply> {
        self.handle("change_members", |state| {
            Ok(v1::NodesReply {
                nodes: state.status.nodes.clone(),
                confirmed: true,
            })
        })
        .await
    }

    async fn check(&self, _: Request<v1::CheckRequest>) -> Answer<v1::CheckReply> {
        self.handle("check", |state| {
            Ok(v1::CheckReply {
                findings: state.findings.clone(),
                summary: format!("{} tasks", state.tasks.len()),
                complete: true,
            })
        })
        .await
    }

    async fn show_spool(&self, _: Request<v1::ShowSpoolRequest>) -> Answer<v1::ShowSpoolReply> {
        self.handle("show_spool", |state| {
            Ok(v1::ShowSpoolReply {
                ops: state.spool.clone(),
                cursor: String::new(),
            })
        })
        .await
    }

    async fn clear_spool(&self, _: Request<v1::ClearSpoolRequest>) -> Answer<v1::ClearSpoolReply> {
        self.handle("clear_spool", |state| {
            state.carried_out.push("clear-spool".to_owned());
            let removed = state.spool.drain(..).count() as u64;
            Ok(v1::ClearSpoolReply { removed })
        })
        .await
    }

    async fn shutdown(&self, request: Request<v1::ShutdownRequest>) -> Answer<v1::ShutdownReply> {
        self.handle("shutdown", |state| {
            state
                .carried_out
                .push(format!("shutdown {}", request.get_ref().message));
            Ok(v1::ShutdownReply {})
        })
        .await
    }

    async fn start(&self, _: Request<v1::StartRequest>) -> Answer<v1::StartReply> {
        self.handle("start", |state| {
            state.carried_out.push("start".to_owned());
            Ok(v1::StartReply {})
        })
        .await
    }

    async fn set_calendar(&self, request: Request<v1::SetCalendarRequest>) -> Answer<v1::SetCalendarReply> {
        let request = request.into_inner();
        self.handle("set_calendar", |state| {
            let actual = state
                .calendars
                .get(&request.name)
                .map_or(0, |(_, generation)| *generation);
            if request.generation.is_some_and(|expected| expected != actual) {
                let text = format!("calendar {:?} is at generation {actual}", request.name);
                return Err(failure(v1::FailureKind::Conflict, text));
            }
            let generation = state.carried_out.len() as u64 + 1;
            state.carried_out.push(format!("set-calendar {}", request.name));
            let calendar = request.calendar.unwrap_or_default();
            state.calendars.insert(request.name, (calendar, generation));
            Ok(v1::SetCalendarReply { generation })
        })
        .await
    }

    async fn delete_calendar(&self, request: Request<v1::DeleteCalendarRequest>) -> Answer<v1::DeleteCalendarReply> {
        let request = request.into_inner();
        self.handle("delete_calendar", |state| {
            if state.calendars.remove(&request.name).is_none() {
                return Err(no_calendar(&request.name));
            }
            state.carried_out.push(format!("delete-calendar {}", request.name));
            Ok(v1::DeleteCalendarReply {})
        })
        .await
    }

    async fn get_calendar(&self, request: Request<v1::GetCalendarRequest>) -> Answer<v1::GetCalendarReply> {
        let request = request.into_inner();
        self.handle("get_calendar", |state| {
            let (calendar, generation) = state
                .calendars
                .get(&request.name)
                .ok_or_else(|| no_calendar(&request.name))?;
            Ok(v1::GetCalendarReply {
                calendar: Some(calendar.clone()),
                generation: *generation,
                changed_at_unix_ms: 1_700_000_000_000,
                used_by: state.tasks.keys().copied().collect(),
            })
        })
        .await
    }

    async fn list_calendars(&self, _: Request<v1::ListCalendarsRequest>) -> Answer<v1::ListCalendarsReply> {
        self.handle("list_calendars", |state| {
            let summary = |(name, (calendar, generation)): (&String, &(v1::Calendar, u64))| v1::CalendarSummary {
                name: name.clone(),
                description: calendar.description.clone(),
                zone: calendar.zone.clone(),
                generation: *generation,
                changed_at_unix_ms: 1_700_000_000_000,
                days: calendar.days.len() as u32,
                intervals: calendar.intervals.len() as u32,
            };
            Ok(v1::ListCalendarsReply {
                calendars: state.calendars.iter().map(summary).collect(),
            })
        })
        .await
    }

    async fn workers(&self, _: Request<v1::WorkersRequest>) -> Answer<v1::WorkersReply> {
        self.handle("workers", |state| {
            Ok(v1::WorkersReply {
                workers: state.workers.clone(),
                cursor: String::new(),
            })
        })
        .await
    }

    async fn drain_worker(&self, request: Request<v1::DrainWorkerRequest>) -> Answer<v1::DrainWorkerReply> {
        self.handle("drain_worker", |state| {
            let v1::DrainWorkerRequest { worker, note, .. } = request.get_ref();
            state.carried_out.push(format!("drain {worker} {note}"));
            Ok(v1::DrainWorkerReply {})
        })
        .await
    }

    async fn undrain_worker(&self, request: Request<v1::UndrainWorkerRequest>) -> Answer<v1::UndrainWorkerReply> {
        self.handle("undrain_worker", |state| {
            state.carried_out.push(format!("undrain {}", request.get_ref().worker));
            Ok(v1::UndrainWorkerReply {})
        })
        .await
    }
}

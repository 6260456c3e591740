//! What the nodes of a [`FakeCluster`](super::FakeCluster) do with what they are asked.

use super::State;
use prost::Message as _;
use sched_proto::convert::failure;
use sched_proto::v1;
use tonic::Status;

impl State {
    pub(super) fn submit(&mut self, request: &v1::SubmitRequest) -> Result<v1::SubmitReply, v1::Failure> {
        let key = request.request.clone().unwrap_or_default().encode_to_vec();
        if let Some(reply) = self.answers.get(&key) {
            return Ok(reply.clone());
        }
        let spec = request.task.clone().unwrap_or_default();
        let taken =
            |task: &&v1::Task| spec.name.is_some() && task.spec.as_ref().is_some_and(|other| other.name == spec.name);
        if let Some(task) = self.tasks.values().find(taken) {
            return Err(v1::Failure {
                existing_task: Some(task.id),
                ..failure(
                    v1::FailureKind::NameTaken,
                    format!("the name is taken by task {}", task.id),
                )
            });
        }
        let id = self.next_id;
        self.next_id += 1;
        let reply = v1::SubmitReply {
            id,
            name: spec.name.clone(),
            state: v1::TaskState::Queued.into(),
            next_run: Some(first_run(&spec)),
        };
        self.tasks.insert(id, new_task(id, spec, reply.next_run));
        self.carried_out.push(format!("submit {id}"));
        self.answers.insert(key, reply.clone());
        Ok(reply)
    }

    pub(super) fn task(&mut self, by: Option<v1::TaskRef>) -> Result<&mut v1::Task, v1::Failure> {
        use v1::task_ref::By;
        let by = by.and_then(|task| task.by);
        let wanted = |task: &v1::Task| match &by {
            Some(By::Id(id)) => task.id == *id,
            Some(By::Named(named)) => task
                .spec
                .as_ref()
                .is_some_and(|spec| spec.name.as_ref() == Some(&named.name)),
            None => false,
        };
        let missing = || failure(v1::FailureKind::NotFound, format!("task {by:?} does not exist"));
        self.tasks.values_mut().find(|task| wanted(task)).ok_or_else(missing)
    }

    pub(super) fn run(&self, id: Option<v1::RunId>) -> Result<v1::Run, v1::Failure> {
        let id = id.unwrap_or_default();
        let missing = || {
            let what = format!("run {}:{} does not exist", id.task, id.number);
            failure(v1::FailureKind::NotFound, what)
        };
        self.runs.get(&(id.task, id.number)).cloned().ok_or_else(missing)
    }

    /// Notes a change of a task and answers with the task.
    pub(super) fn changed(&mut self, what: &str, by: Option<v1::TaskRef>) -> Result<v1::TaskReply, v1::Failure> {
        let task = self.task(by)?.clone();
        self.carried_out.push(format!("{what} {}", task.id));
        Ok(v1::TaskReply {
            id: task.id,
            name: task.spec.and_then(|spec| spec.name),
            state: task.state,
            next_run: task.next_run,
        })
    }

    /// Notes a change of a run and answers with its name.
    pub(super) fn run_changed(&mut self, what: &str, id: Option<v1::RunId>) -> Result<v1::RunReply, v1::Failure> {
        let run = self.run(id)?;
        let name = run.id.unwrap_or_default();
        self.carried_out.push(format!("{what} {}:{}", name.task, name.number));
        Ok(v1::RunReply {
            run: run.id,
            task: name.task,
        })
    }
}

/// Cuts the output from `offset` on into chunks; an error stands where the stream breaks.
pub(super) fn pieces(state: &State, offset: usize) -> Vec<Result<v1::LogsChunk, Status>> {
    let output = &state.output;
    let mut pieces = Vec::new();
    for at in (offset..output.len().max(offset + 1)).step_by(4) {
        if state.output_breaks_at.is_some_and(|breaks| at >= breaks) {
            pieces.push(Err(Status::unavailable("broken")));
            break;
        }
        let end = output.len().min(at + 4);
        pieces.push(Ok(v1::LogsChunk {
            offset: at as u64,
            data: bytes::Bytes::copy_from_slice(output.get(at..end).unwrap_or_default()),
            attempt: 1,
            end: end == output.len(),
            tail_only: false,
        }));
    }
    pieces
}

pub(super) fn no_calendar(name: &str) -> v1::Failure {
    failure(v1::FailureKind::NotFound, format!("calendar {name:?} does not exist"))
}

pub(super) fn first_run(spec: &v1::TaskSpec) -> v1::NextRun {
    use v1::next_run::Next;
    use v1::schedule::Form;
    let next = match spec.schedule.as_ref().and_then(|schedule| schedule.form.as_ref()) {
        Some(Form::At(at)) => Next::AtUnixMs(at.at_unix_ms),
        Some(Form::Before(before)) => Next::AtUnixMs(before.event_unix_ms.saturating_sub_unsigned(before.before_ms)),
        Some(Form::Manual(_)) => Next::Never(v1::NextRunNever {}),
        _ => Next::AtUnixMs(1_700_000_000_000),
    };
    v1::NextRun { next: Some(next) }
}

pub(super) fn new_task(id: u64, spec: v1::TaskSpec, next_run: Option<v1::NextRun>) -> v1::Task {
    v1::Task {
        id,
        spec: Some(spec),
        created_at_unix_ms: 1_700_000_000_000,
        state: v1::TaskState::Queued.into(),
        generation: 1,
        next_run,
        ..v1::Task::default()
    }
}

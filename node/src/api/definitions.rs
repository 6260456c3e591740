//! Changes of definitions and of history: of a task as a whole, of what is kept of it, and of the cluster's settings.

use super::changes::{Seen, computed, other_call, propose, task_reply, wire};
use super::submit::{policy_defaults, seed, task_spec};
use super::{errors, reads};
use crate::calendars::Compiled;
use crate::recurrences::compile;
use crate::shared::{OrStop, Shared, aside};
use crate::state;
use crate::zones::SystemZones;
use sched_core::calendar::Calendars;
use sched_core::command::{Call, Command, Fault, Reject, Reply};
use sched_core::config::Config;
use sched_core::ids::{RequestKey, RunId, TaskId};
use sched_core::limits::{ROUND_ITEMS_MAX, TASK_CALENDARS_MAX};
use sched_core::plan::first_run;
use sched_core::schedule::{Occurrences, Schedule};
use sched_core::tables::{Key, Table, TaskOutcome, View, decode_u64};
use sched_core::task::{Policy, TaskRef, TaskSpec};
use sched_core::{Timestamp, validate};
use sched_proto::convert::{from_wire, to_wire};
use sched_proto::v1::{
    self, ConfigReply, DeleteHistoryReply, DeleteHistoryRequest, RunState, SetConfigRequest, TaskReply, UpdateRequest,
};
use tonic::Status;

/// Index entries of ended runs read in one round.
const READ_MAX: usize = 4096;

pub(super) async fn update(shared: &Shared, call: UpdateRequest) -> Result<TaskReply, Status> {
    let key = wire(from_wire::request_key(call.request.clone()))?;
    let task = wire(from_wire::task_ref(call.task.clone()))?;
    if call.generation == 0 {
        let problem = "is missing; expected the one that the definition was read at";
        return Err(errors::invalid("generation", problem));
    }
    let (defaults, by) = (policy_defaults(shared), key.clone());
    let calendars = calendars_of(shared, call.spec.as_ref())?;
    computed(
        shared,
        key,
        task,
        (Call::Update, true),
        task_reply,
        move |zones, seen, now| updated(zones, seen, &call, (&by, &defaults, &calendars), now),
    )
    .await
}

/// Returns the calendars that the new definition names, as they are now.
fn calendars_of(shared: &Shared, spec: Option<&v1::TaskSpec>) -> Result<Calendars, Status> {
    let Some((spec, bounds)) = spec.and_then(|spec| Some((spec, spec.bounds.as_ref()?))) else {
        return Ok(Calendars::default());
    };
    let (namespace, _) = wire(from_wire::calendar_name(spec.namespace.clone(), "any".to_owned()))?;
    let most = bounds.calendars.len().min(TASK_CALENDARS_MAX);
    let view = shared.replica.view();
    let found = Compiled::default().of(&view, &*shared.zones, &namespace, &bounds.calendars[..most]);
    Ok(found.or_stop())
}

/// Returns the command that gives a task another definition.
fn updated(
    zones: &SystemZones,
    seen: Seen,
    call: &UpdateRequest,
    (key, defaults, calendars): (&RequestKey, &Policy, &Calendars),
    now: Timestamp,
) -> Result<Command, Reject> {
    let stored = seen.task.spec;
    let mut spec = task_spec(with_dtstart(call.spec.clone().unwrap_or_default(), &stored), now)?;
    spec.policy.fill(Some(&stored.policy), defaults);
    validate::task_spec(&spec)?;
    if let Some(jitter) = &mut spec.bounds.jitter {
        // The task keeps its times, whatever its name is now.
        jitter.seed = match stored.bounds.jitter {
            Some(before) => before.seed,
            None => seed(spec.name.as_deref(), key),
        };
    }
    // `H` in a cron expression depends on the name.
    let is_renamed = spec.name != stored.name && matches!(spec.schedule, Schedule::Cron { .. });
    let next = if spec.schedule == stored.schedule && spec.bounds == stored.bounds && !is_renamed {
        None
    } else {
        let recurrence = compile(&spec, zones)?;
        if matches!(spec.schedule, Schedule::In { .. }) {
            spec.schedule = spec.schedule.resolved(now);
        }
        let occurrences = Occurrences::new(&recurrence, calendars);
        Some(first_run(
            &spec.schedule,
            &occurrences,
            &spec.policy,
            call.late_ok,
            now,
        )?)
    };
    Ok(Command::Update {
        task: TaskRef::Id(seen.id),
        generation: call.generation,
        spec: Box::new(spec),
        next,
    })
}

/// Rules that do not say where they begin go on from where they began.
fn with_dtstart(mut wire: v1::TaskSpec, stored: &TaskSpec) -> v1::TaskSpec {
    if let (Some(v1::schedule::Form::Rrule(rule)), Schedule::Rrule { dtstart, .. }) = (
        wire.schedule.as_mut().and_then(|schedule| schedule.form.as_mut()),
        &stored.schedule,
    ) {
        rule.dtstart_unix_ms.get_or_insert(dtstart.as_millis());
    }
    wire
}

/// Deletes in bounded steps. Only the first is under the caller's key: a repeat gets its answer and goes on where it stopped.
pub(super) async fn delete_history(shared: &Shared, call: DeleteHistoryRequest) -> Result<DeleteHistoryReply, Status> {
    let mut key = Some(wire(from_wire::request_key(call.request))?);
    let task = wire(from_wire::task_ref(call.task))?;
    let before = wire(
        call.before_unix_ms
            .map(|ms| from_wire::instant("before", ms))
            .transpose(),
    )?;
    let outcomes = outcomes(call.state)?;
    let before = before.unwrap_or(Timestamp::MAX);
    // Of a part of the runs no line of the ledger tells: missed and skipped occurrences have none.
    let mut lines_before = (outcomes.len() == 2).then_some(before);
    let id = reads::resolve(&shared.replica.view(), &task)?;
    let mut walk = Walk {
        task: id,
        outcomes,
        before,
        from: None,
    };
    let mut reply = DeleteHistoryReply::default();
    loop {
        let view = shared.replica.view();
        let (runs, kept) = aside(move || walk.step(&view).map(|runs| (runs, walk)))
            .await?
            .or_stop();
        walk = kept;
        let is_last = walk.outcomes.is_empty();
        if !runs.is_empty() || key.is_some() {
            let command = Command::DeleteHistory {
                task: TaskRef::Id(id),
                runs,
                lines_before: lines_before.take(),
            };
            let done = propose(shared, key.take(), command).await;
            match done.map_err(|e| errors::refuse(&e))? {
                Reply::History { runs, lines } => {
                    reply.runs += runs;
                    reply.ledger_lines += lines;
                }
                _ => return Err(other_call()),
            }
        }
        if is_last {
            tracing::info!(task = %id, runs = reply.runs, ledger_lines = reply.ledger_lines, "history deleted");
            return Ok(reply);
        }
    }
}

fn outcomes(state: i32) -> Result<Vec<TaskOutcome>, Status> {
    match RunState::try_from(state) {
        Ok(RunState::Unspecified) => Ok(vec![TaskOutcome::Finished, TaskOutcome::Failed]),
        Ok(RunState::Finished) => Ok(vec![TaskOutcome::Finished]),
        Ok(RunState::Failed) => Ok(vec![TaskOutcome::Failed]),
        _ => Err(errors::invalid(
            "state",
            format!("{state} is not one that runs end in; expected FINISHED, or FAILED, which includes TERMINATED"),
        )),
    }
}

/// Goes through the ended runs of a task.
struct Walk {
    task: TaskId,
    /// Those still to be gone through, the last one first.
    outcomes: Vec<TaskOutcome>,
    before: Timestamp,
    /// Where to go on in the last of the outcomes.
    from: Option<Vec<u8>>,
}

impl Walk {
    /// Returns the numbers of the next runs that are to go.
    fn step(&mut self, view: &impl View) -> Result<Vec<u64>, Fault> {
        let Some(outcome) = self.outcomes.last().copied() else {
            return Ok(Vec::new());
        };
        let (first, to) = Key::ended_of_task(self.task, outcome);
        let from = self.from.take().unwrap_or(first);
        let (mut numbers, mut read, mut last) = (Vec::new(), 0, None);
        for (key, _) in view.scan(Table::Ended, &from, &to, READ_MAX)? {
            if numbers.len() == ROUND_ITEMS_MAX {
                break;
            }
            read += 1;
            let number = key.get(10..).and_then(decode_u64);
            let number = number.ok_or_else(|| Fault::Inconsistent("key of an ended run of a task".into()))?;
            let run = state::run(
                view,
                RunId {
                    task: self.task,
                    number,
                },
            )?;
            if run.is_some_and(|run| run.ended_at.is_some_and(|at| at < self.before)) {
                numbers.push(number);
            }
            last = Some(key);
        }
        match last {
            Some(mut last) if read == READ_MAX || numbers.len() == ROUND_ITEMS_MAX => {
                last.push(0);
                self.from = Some(last);
            }
            _ => drop(self.outcomes.pop()),
        }
        Ok(numbers)
    }
}

pub(super) async fn get_config(shared: &Shared) -> Result<ConfigReply, Status> {
    reads::barrier(shared).await?;
    Ok(to_wire::config(&Config::read(&shared.replica.view()).or_stop()))
}

pub(super) async fn set_config(shared: &Shared, call: SetConfigRequest) -> Result<ConfigReply, Status> {
    let key = wire(from_wire::request_key(call.request))?;
    let (set, unset) = wire(from_wire::config_change(&call.set, &call.unset))?;
    let command = Command::Configure {
        set: Box::new(set),
        unset,
    };
    let done = propose(shared, Some(key), command).await;
    let reply = to_wire::config_reply(&done.map_err(|e| errors::refuse(&e))?).ok_or_else(other_call)?;
    for param in &call.set {
        tracing::info!(setting = param.key, value = param.value, "configured");
    }
    for setting in &call.unset {
        tracing::info!(setting, "configured as it is built in");
    }
    Ok(reply)
}

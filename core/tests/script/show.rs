//! How a script writes down what it saw.

use sched_core::run::RunState;
use sched_core::task::NextRun;
use sched_core::{Effect, Reply, RunId};

pub(super) fn show_next(next: NextRun) -> String {
    match next {
        NextRun::At(at) => at.as_millis().to_string(),
        NextRun::Never => "never".into(),
        NextRun::GaveUp { retry_at, .. } => format!("gave-up until {}", retry_at.as_millis()),
    }
}

pub(super) fn show_state(state: RunState) -> String {
    let word = state.as_str();
    match state {
        RunState::Ready => format!("{word} ready"),
        RunState::Held => format!("{word} held"),
        RunState::Blocked => format!("{word} blocked"),
        RunState::Delayed { until } => format!("{word} until={}", until.as_millis()),
        RunState::Assigned { token, session } | RunState::Running { token, session } => {
            format!("{word} token={token} session={session}")
        }
        RunState::Lost { token, hold_until } => match hold_until {
            Some(until) => format!("{word} token={token} held until={}", until.as_millis()),
            None => format!("{word} token={token}"),
        },
        _ => word.into(),
    }
}

pub(super) fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::Done => "done".into(),
        Reply::Task { id, name, state, next } => {
            format!(
                "task {id} {} {} next={}",
                name.as_deref().unwrap_or("-"),
                state.as_str(),
                show_next(*next)
            )
        }
        Reply::Run { run: Some(run), .. } => format!("run {run}"),
        Reply::Run { run: None, task } => format!("task {task} spooled"),
        Reply::Config(_) => "configured".into(),
        Reply::History { runs, lines } => format!("deleted runs={runs} lines={lines}"),
        Reply::Count { count, more } => format!("count {count}{}", if *more { " and more" } else { "" }),
        Reply::Fired { runs, refused } => {
            let runs: Vec<String> = runs.iter().map(RunId::to_string).collect();
            format!("fired [{}] refused {refused}", runs.join(", "))
        }
        Reply::Assigned(tokens) => {
            let tokens: Vec<String> = tokens.iter().map(|t| t.map_or("-".into(), |t| t.to_string())).collect();
            format!("assigned {}", tokens.join(" "))
        }
        Reply::Runs(runs) => {
            let runs: Vec<String> = runs.iter().map(RunId::to_string).collect();
            format!("runs [{}]", runs.join(", "))
        }
        Reply::Calendar { generation } => format!("calendar at {generation}"),
        Reply::Completed { current } => format!("completed current={current}"),
        Reply::Session { id, dispositions, .. } => {
            let each: Vec<String> = dispositions.iter().map(|(run, _, d)| format!("{run} {d:?}")).collect();
            format!("session {id} [{}]", each.join(", "))
        }
    }
}

/// Notices are left out: they follow every change.
pub(super) fn show_effect(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::WakeTicker(at) => format!("tick {}", at.as_millis()),
        Effect::WakeDispatcher => "dispatch".into(),
        Effect::RunEnded { run, recovered: false } => format!("ended {run}"),
        Effect::RunEnded { run, recovered: true } => format!("recovered {run}"),
        Effect::RunLost { run } => format!("lost {run}"),
        Effect::OccurrencesMissed { task, line } => format!("missed {task} line {line}"),
        Effect::WakeDrain => "drain".into(),
        Effect::StartAttempt { run, token, session } => format!("start {run} {token} on {session}"),
        Effect::Kill { run, token, session } => format!("kill {run} {token} on {session}"),
        Effect::WorkerDrained { worker, drained: true } => format!("{worker} drained"),
        Effect::WorkerDrained { worker, drained: false } => format!("{worker} undrained"),
        Effect::SessionEnded { session } => format!("session {session} ended"),
        Effect::RunChanged { .. } | Effect::TaskChanged { .. } => return None,
    })
}

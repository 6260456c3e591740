//! Answers to commands that were carried out.

use super::{next_run, run_id, task_state};
use crate::v1;
use sched_core::command::Reply;
use sched_core::config::{Config, Setting};

/// The reply to a submit; nothing when the command was another.
pub fn submit_reply(reply: &Reply) -> Option<v1::SubmitReply> {
    let task = task_reply(reply)?;
    Some(v1::SubmitReply {
        id: task.id,
        name: task.name,
        state: task.state,
        next_run: task.next_run,
    })
}

/// The reply to a command on a task; nothing when the command was another.
pub fn task_reply(reply: &Reply) -> Option<v1::TaskReply> {
    match reply {
        Reply::Task { id, name, state, next } => Some(v1::TaskReply {
            id: id.0,
            name: name.clone(),
            state: task_state(*state).into(),
            next_run: Some(next_run(*next)),
        }),
        _ => None,
    }
}

/// All settings of the cluster.
pub fn config(config: &Config) -> v1::ConfigReply {
    let built_in = Config::default();
    let setting = |setting: Setting| v1::Setting {
        key: setting.key().to_owned(),
        value: config.value(setting),
        built_in: built_in.value(setting),
        set: config.is_set(setting),
    };
    v1::ConfigReply {
        settings: Setting::all().map(setting).collect(),
    }
}

/// The reply to a change of settings; nothing when the command was another.
pub fn config_reply(reply: &Reply) -> Option<v1::ConfigReply> {
    match reply {
        Reply::Config(all) => Some(config(all)),
        _ => None,
    }
}

/// The reply to a backfill; nothing when the command was another.
pub fn backfill_reply(reply: &Reply) -> Option<v1::BackfillReply> {
    match reply {
        Reply::Runs(runs) => Some(v1::BackfillReply {
            runs: runs.iter().copied().map(run_id).collect(),
        }),
        _ => None,
    }
}

/// The reply to setting a calendar; nothing when the command was another.
pub fn set_calendar_reply(reply: &Reply) -> Option<v1::SetCalendarReply> {
    match reply {
        Reply::Calendar { generation } => Some(v1::SetCalendarReply {
            generation: *generation,
        }),
        _ => None,
    }
}

/// The reply to a command on a run; nothing when the command was another.
pub fn run_reply(reply: &Reply) -> Option<v1::RunReply> {
    match reply {
        Reply::Run { run, task } => Some(v1::RunReply {
            run: run.map(run_id),
            task: task.0,
        }),
        _ => None,
    }
}

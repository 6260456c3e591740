//! Task documents: one or many tasks in a YAML or JSON file.
//!
//! A file holds a task, a list of tasks, or several YAML documents of either. Unknown fields are refused. An error names the file,
//! the number of the task in it, and the field; all tasks of a file are read before the first is sent.

use crate::build::{Builder, Origin, Problem};
use crate::input::{
    ActionInput, DeliveryWord, DstWord, EndingWord, MailInput, OnDisconnectWord, OverlapWord, PolicyInput,
    ScheduleInput, pairs, pairs_as_map,
};
use sched_client::Submission;
use sched_core::schedule::{DstPolicy, Schedule, Zones, format_duration};
use sched_core::task::{
    Action, Bounds, Delivery, Ending, OnDisconnect, Overlap, Policy, PolicyField, TaskRef, TaskSpec,
};
use sched_core::{Timestamp, validate};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Largest file, in bytes: hundreds of thousands of tasks.
pub(crate) const FILE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A task as it stands in a file.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TaskDocument {
    /// Unique in its namespace; with it, a file can be applied again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    #[serde(
        deserialize_with = "pairs",
        serialize_with = "pairs_as_map",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) labels: Vec<(String, String)>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) owner: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    pub(crate) schedule: ScheduleInput,
    pub(crate) action: ActionInput,
    pub(crate) policy: PolicyInput,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) late_ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

/// What documents are read with.
pub(crate) struct Context<'a> {
    pub(crate) zones: &'a dyn Zones,
    pub(crate) now: Timestamp,
    /// Of tasks that name none.
    pub(crate) namespace: &'a str,
    /// Relative working folders count from here: the folder of the file.
    pub(crate) folder: &'a Path,
}

impl TaskDocument {
    /// Turns it into a task to submit, checking all of it.
    pub(crate) fn build(&self, context: &Context<'_>) -> Result<Submission, Problem> {
        let builder = Builder {
            namespace: self.namespace.as_deref().unwrap_or(context.namespace),
            origin: Origin::Document,
            zones: context.zones,
            now: context.now,
            folder: context.folder,
        };
        let schedule = builder.schedule(&self.schedule, self.name.as_deref().unwrap_or_default())?;
        let spec = TaskSpec {
            namespace: self.namespace.clone().unwrap_or_else(|| context.namespace.to_owned()),
            name: self.name.clone(),
            labels: self.labels.iter().cloned().collect(),
            owner: self.owner.clone(),
            description: self.description.clone(),
            schedule: schedule.schedule,
            action: builder.action(&self.action)?,
            policy: builder.policy(&self.policy)?,
            bounds: builder.bounds(&self.schedule)?,
        };
        check(&spec, Origin::Document)?;
        Ok(Submission {
            spec,
            late_ok: self.late_ok,
            key: self.request_id.clone(),
            starts_when_accepted: schedule.starts_when_accepted,
        })
    }
}

/// Fields of a task that are called otherwise where people write them: first as the task has it, then the part and the field of a
/// document, from which the flag follows.
const CALLED: [(&str, &str, &str); 44] = [
    ("bounds.not_before", "schedule", "not_before"),
    ("bounds.until", "schedule", "until"),
    ("bounds.expires", "schedule", "expires"),
    ("bounds.count", "schedule", "count"),
    ("bounds.jitter", "schedule", "jitter"),
    ("bounds.calendars", "schedule", "calendars"),
    ("schedule.at", "schedule", "at"),
    ("schedule.in", "schedule", "in"),
    ("schedule.anchor", "schedule", "anchor"),
    ("schedule.dtstart", "schedule", "dtstart"),
    ("schedule.after", "schedule", "after"),
    ("schedule.before", "schedule", "before"),
    ("policy.grace_ms", "policy", "grace"),
    ("policy.missed", "policy", "missed"),
    ("policy.catch_up_every_ms", "policy", "catch_up_every"),
    ("policy.tries.max", "policy", "tries"),
    ("policy.tries.delay_ms", "policy", "retry_delay"),
    ("policy.tries.delay_ms_max", "policy", "retry_delay_max"),
    ("policy.tries.put_off_ms_max", "policy", "put_off_max"),
    ("policy.time_limit_ms", "policy", "time_limit"),
    ("policy.group", "policy", "group"),
    ("policy.placement.require", "policy", "require"),
    ("policy.placement.prefer", "policy", "prefer"),
    ("policy.notify", "policy", "notify"),
    ("policy.priority", "policy", "priority"),
    ("policy.delivery", "policy", "delivery"),
    ("policy.retention.finished_age_ms_max", "policy", "keep_for"),
    ("policy.retention.failed_age_ms_max", "policy", "keep_failed_for"),
    ("action.command.argv", "action", "command"),
    ("action.command.env", "action", "env"),
    ("action.command.user", "action", "user"),
    ("action.command.limits.cpu_s", "action", "limit_cpu"),
    ("action.command.limits.memory_bytes", "action", "limit_memory"),
    ("action.command.limits.files", "action", "limit_files"),
    ("action.progress_timeout_ms", "action", "progress_timeout"),
    ("action.http.url", "action", "http"),
    ("action.http.success_statuses", "action", "http_status"),
    ("action.http.timeout_ms", "action", "http_timeout"),
    ("action.http.expect", "action", "expect"),
    ("action.mail.from", "action", "mail_from"),
    ("action.mail.to", "action", "mail_to"),
    ("action.mail.cc", "action", "mail_cc"),
    ("action.mail.subject", "action", "mail_subject"),
    ("action.mail.text", "action", "mail_text"),
];

fn called(field: String, origin: Origin) -> String {
    let known = CALLED.iter().find(|(ours, ..)| *ours == field);
    known.map_or(field, |(_, part, name)| origin.name(part, name))
}

/// Checks the bounds of a task.
pub(crate) fn check(spec: &TaskSpec, origin: Origin) -> Result<(), Problem> {
    validate::task_spec(spec).map_err(|reject| match reject {
        sched_core::Reject::Invalid { field, problem } => Problem {
            field: called(field, origin),
            what: problem,
        },
        other => Problem {
            field: "task".to_owned(),
            what: other.to_string(),
        },
    })
}

/// Reads every task of a text. `name` says whether it is JSON; without an ending, a text that begins like JSON and is JSON is taken
/// for JSON.
pub(crate) fn read(name: &str, text: &str) -> Result<Vec<TaskDocument>, String> {
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(".json") {
        return read_json(name, text);
    }
    let is_yaml = lower.ends_with(".yaml") || lower.ends_with(".yml");
    if !is_yaml
        && text.trim_start().starts_with(['{', '['])
        && let Ok(tasks) = read_json(name, text)
    {
        return Ok(tasks);
    }
    let mut tasks = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        collect(Tasks::deserialize(document), &mut tasks).map_err(|error| at(name, tasks.len(), &error))?;
    }
    some(name, tasks)
}

fn read_json(name: &str, text: &str) -> Result<Vec<TaskDocument>, String> {
    let mut tasks = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Tasks>() {
        collect(document, &mut tasks).map_err(|error| at(name, tasks.len(), &error))?;
    }
    some(name, tasks)
}

fn collect<E>(document: Result<Tasks, E>, tasks: &mut Vec<TaskDocument>) -> Result<(), E> {
    tasks.extend(document?.0);
    Ok(())
}

/// Says where an error is: the parsers add the line and, for YAML, the field.
fn at(name: &str, read: usize, error: &dyn fmt::Display) -> String {
    let after = if read == 0 {
        String::new()
    } else {
        format!(", after task {read}")
    };
    format!("{name}{after}: {error}")
}

fn some(name: &str, tasks: Vec<TaskDocument>) -> Result<Vec<TaskDocument>, String> {
    if tasks.is_empty() {
        return Err(format!(
            "{name}: holds no task; expected a mapping with schedule and action, or a list of them"
        ));
    }
    Ok(tasks)
}

/// One task, or a list of tasks. Read in one pass, so that errors keep their line and field.
struct Tasks(Vec<TaskDocument>);

impl<'de> Deserialize<'de> for Tasks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Tasks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a task or a list of tasks")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tasks, A::Error> {
                Ok(Tasks(vec![TaskDocument::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tasks, A::Error> {
                let mut tasks = Vec::new();
                while let Some(task) = list.next_element()? {
                    tasks.push(task);
                }
                Ok(Tasks(tasks))
            }

            /// An empty document between two `---`.
            fn visit_unit<E>(self) -> Result<Tasks, E> {
                Ok(Tasks(Vec::new()))
            }

            /// An empty file.
            fn visit_none<E>(self) -> Result<Tasks, E> {
                Ok(Tasks(Vec::new()))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Writes a task as a document: what it says, read again, is the same task.
pub(crate) fn document_of(spec: &TaskSpec) -> TaskDocument {
    TaskDocument {
        name: spec.name.clone(),
        namespace: Some(spec.namespace.clone()).filter(|namespace| namespace != "default"),
        labels: spec
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        owner: spec.owner.clone(),
        description: spec.description.clone(),
        schedule: schedule_of(&spec.schedule, &spec.bounds),
        action: action_of(&spec.action),
        policy: policy_of(&spec.policy),
        late_ok: false,
        request_id: None,
    }
}

fn schedule_of(schedule: &Schedule, bounds: &Bounds) -> ScheduleInput {
    let text = |at: &Option<Timestamp>| at.map(|at| at.to_string());
    let mut input = ScheduleInput {
        not_before: text(&bounds.not_before),
        until: text(&bounds.until),
        expires: text(&bounds.expires),
        count: bounds.count,
        jitter: bounds.jitter.map(|jitter| format_duration(jitter.ms)),
        calendars: bounds.calendars.clone(),
        ..ScheduleInput::default()
    };
    let texts = |list: &[Timestamp]| list.iter().map(Timestamp::to_string).collect();
    let in_zone = |input: &mut ScheduleInput, zone: &String, dst: DstPolicy| {
        input.tz = Some(zone.clone()).filter(|zone| zone != "UTC");
        input.dst = (dst == DstPolicy::Skip).then_some(DstWord::Skip);
    };
    match schedule {
        Schedule::Now => {}
        Schedule::At(at) => input.at = Some(at.to_string()),
        Schedule::In { delay_ms } => input.in_ = Some(format_duration(*delay_ms)),
        Schedule::Every { every_ms, anchor } => {
            input.every = Some(format_duration(*every_ms));
            input.anchor = Some(anchor.to_string()).filter(|_| *anchor != Timestamp::EPOCH);
        }
        Schedule::Cron { expr, zone, dst } => {
            input.cron = Some(expr.clone());
            in_zone(&mut input, zone, *dst);
        }
        Schedule::Rrule {
            rules,
            dtstart,
            rdates,
            exdates,
            zone,
            dst,
        } => {
            input.rrule = rules.clone();
            input.dtstart = Some(dtstart.to_string());
            input.rdate = texts(rdates);
            input.exdate = texts(exdates);
            in_zone(&mut input, zone, *dst);
        }
        Schedule::Manual => input.manual = true,
        Schedule::After { parents, on } => {
            let name = |parent: &TaskRef| match parent {
                TaskRef::Id(id) => id.to_string(),
                TaskRef::Name { name, .. } => name.clone(),
            };
            input.after = parents.iter().map(name).collect();
            input.on = match on {
                Ending::Success => None,
                Ending::Failure => Some(EndingWord::Failure),
                Ending::Any => Some(EndingWord::Any),
            };
        }
        Schedule::Before { event, before_ms } => {
            input.at = Some(event.to_string());
            input.before = Some(format_duration(*before_ms));
        }
    }
    input
}

fn action_of(action: &Action) -> ActionInput {
    let mut input = ActionInput::default();
    // A document holds text; bytes that are none are shown as well as text can.
    let text = |bytes: &[u8]| (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
    match action {
        Action::Command {
            argv,
            env,
            dir,
            stdin,
            success_codes,
            user,
            limits,
        } => {
            input.command = argv.clone();
            input.env = env.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            input.dir = dir.clone();
            input.stdin = text(stdin);
            input.success_code = success_codes.clone();
            input.user = user.clone();
            input.limit_cpu = limits
                .cpu_s
                .map(|seconds| format_duration(seconds.saturating_mul(1000)));
            input.limit_memory = limits.memory_bytes.map(|bytes| bytes.to_string());
            input.limit_files = limits.files;
        }
        Action::Http {
            method,
            url,
            headers,
            body,
            success_statuses,
            timeout_ms,
            expect,
            expect_headers,
        } => {
            input.http = Some(format!("{method} {url}"));
            input.header = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            input.body = text(body);
            input.http_status = success_statuses.clone();
            input.http_timeout = Some(format_duration(*timeout_ms));
            input.expect = expect.clone();
            input.expect_header = expect_headers
                .iter()
                .map(|(name, regex)| format!("{name}: {regex}"))
                .collect();
        }
        Action::Sample {
            succeed, duration_ms, ..
        } => {
            let word = if *succeed { "ok" } else { "fail" };
            input.sample = Some(if *duration_ms == 0 {
                word.to_owned()
            } else {
                format!("{word},{duration_ms}")
            });
        }
        Action::Mail {
            from,
            to,
            cc,
            subject,
            text,
        } => {
            input.mail = MailInput {
                to: to.clone(),
                cc: cc.clone(),
                from: from.clone(),
                subject: Some(subject.clone()),
                text: Some(text.clone()).filter(|text| !text.is_empty()),
            };
        }
        Action::Worker {
            queue,
            payload,
            progress_timeout_ms,
        } => {
            input.queue = Some(queue.clone());
            let json = |payload: &[u8]| match serde_json::from_slice::<serde_json::Value>(payload) {
                Ok(value) => value.to_string(),
                Err(_) => serde_json::Value::from(String::from_utf8_lossy(payload)).to_string(),
            };
            input.payload = (!payload.is_empty()).then(|| json(payload));
            input.progress_timeout = progress_timeout_ms.map(format_duration);
        }
    }
    input
}

/// Writes out what is stated and what is not as built in: the rest would hide it.
fn policy_of(policy: &Policy) -> PolicyInput {
    let built_in = Policy::default();
    let says = |field: PolicyField| policy.stated.contains(field) || !policy.has_same(field, &built_in);
    let text = |field: PolicyField| says(field).then(|| policy.text_of(field));
    let overlap = match policy.overlap {
        Overlap::Allow => OverlapWord::Allow,
        Overlap::Skip => OverlapWord::Skip,
        Overlap::QueueOne => OverlapWord::QueueOne,
        Overlap::QueueAll => OverlapWord::QueueAll,
        Overlap::Replace => OverlapWord::Replace,
    };
    let (tries, kept) = (&policy.tries, &policy.retention);
    let follows =
        !policy.stated.contains(PolicyField::KeepFailedFor) && kept.failed_age_ms_max == kept.finished_age_ms_max;
    PolicyInput {
        overlap: says(PolicyField::Overlap).then_some(overlap),
        missed: text(PolicyField::Missed),
        grace: text(PolicyField::Grace),
        tries: says(PolicyField::Tries).then_some(tries.max),
        retry_delay: text(PolicyField::RetryDelay),
        retry_factor: says(PolicyField::RetryFactor).then(|| f64::from(tries.factor_percent) / 100.0),
        retry_delay_max: text(PolicyField::RetryDelayMax),
        put_off_max: text(PolicyField::PutOffMax),
        catch_up_every: text(PolicyField::CatchUpEvery),
        delivery: policy.delivery.map(|delivery| match delivery {
            Delivery::AtLeastOnce => DeliveryWord::AtLeastOnce,
            Delivery::AtMostOnce => DeliveryWord::AtMostOnce,
        }),
        on_disconnect: policy.on_disconnect.map(|on_disconnect| match on_disconnect {
            OnDisconnect::Kill => OnDisconnectWord::Kill,
            OnDisconnect::Continue => OnDisconnectWord::Continue,
        }),
        lost_hold: (policy.lost_hold_ms != built_in.lost_hold_ms).then(|| format_duration(policy.lost_hold_ms)),
        time_limit: text(PolicyField::TimeLimit),
        priority: says(PolicyField::Priority).then_some(policy.priority),
        keep_finished: says(PolicyField::KeepFinished).then_some(kept.finished_max),
        keep_failed: says(PolicyField::KeepFailed).then_some(kept.failed_max),
        keep_for: text(PolicyField::KeepFor),
        keep_failed_for: text(PolicyField::KeepFailedFor).filter(|_| !follows),
        group: policy
            .group
            .as_ref()
            .map(|group| format!("{}:{}", group.name, group.limit)),
        require: policy.placement.require.clone().into_iter().collect(),
        prefer: policy.placement.prefer.clone().into_iter().collect(),
        notify: policy.notify.iter().map(crate::notify::write).collect(),
    }
}

#[cfg(test)]
mod tests;

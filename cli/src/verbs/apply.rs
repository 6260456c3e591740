//! `enqueue -f`: the tasks of a file. A named task that is there already is left alone when it is equal, and changed when it differs, so
//! that a file can be edited and applied again and again. What a file leaves to the cluster's defaults is no difference, whatever those
//! are by now.

use super::{Cluster, runs, update};
use crate::document::{self, Context, FILE_BYTES_MAX};
use crate::error::{CliError, REFUSED};
use crate::view::{self, Applied, Handle};
use crate::{output, when};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sched_client::{ClientError, Submission, Update, v1};
use sched_core::Timestamp;
use sched_core::ids::TaskId;
use sched_core::schedule::Schedule;
use sched_core::task::{Bounds, TaskRef, TaskSpec};
use std::io::Read as _;
use std::path::Path;

/// From so many tasks on, progress is shown.
const PROGRESS_FROM: usize = 100;
/// So many refusals are told one by one; the rest is counted.
const REFUSALS_TOLD_MAX: usize = 20;
/// How often a task is read again because it changed in between.
const CONFLICTS_MAX: usize = 5;
/// How far the leader's clock may have moved between computing a relative start and accepting the task.
const RESOLVED_WITHIN_MS: i64 = 60_000;

pub(super) async fn apply(cluster: &Cluster, file: &Path, wait: bool) -> Result<(), CliError> {
    let (name, text) = read(file)?;
    let submissions = submissions(cluster, file, &name, &text)?;
    drop(text);
    let progress = progress(submissions.len());
    let replies = cluster
        .client
        .submit_all(futures::stream::iter(submissions.iter().cloned()));
    let mut replies = std::pin::pin!(replies);
    let mut applied = Vec::with_capacity(submissions.len());
    let mut refusals = Refusals {
        name,
        told: 0,
        code: None,
    };
    for (number, submission) in submissions.iter().enumerate() {
        let Some(reply) = replies.next().await else {
            break;
        };
        match settle(cluster, submission, reply).await {
            Ok(task) => applied.push(task),
            // The rest of the file would fail the same way, each task after its own deadline.
            Err(error) if error.is_unreachable() => {
                progress.finish_and_clear();
                let done = format!(
                    "{}: {} of {} tasks are in, then",
                    refusals.name,
                    applied.len(),
                    submissions.len()
                );
                return Err(CliError::About(done, Box::new(error)));
            }
            Err(error) => progress.suspend(|| refusals.tell(number + 1, &submission.spec, &error)),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    output::data(cluster.global.output, &applied, |applied| view::applied(applied))?;
    if wait {
        for task in &applied {
            runs::wait_for_task(cluster, &TaskRef::Id(TaskId(task.task.id)), None).await?;
        }
    }
    refusals.outcome()
}

/// Reads the file, or standard input for `-`.
fn read(file: &Path) -> Result<(String, String), CliError> {
    let is_stdin = file.as_os_str() == "-";
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let problem = |what: String| CliError::Usage(format!("{name}: {what}"));
    let source: Box<dyn std::io::Read> = if is_stdin {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| problem(error.to_string()))?)
    };
    let mut bytes = Vec::new();
    let bounded = source.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    bounded.map_err(|error| problem(error.to_string()))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(problem(format!("is larger than {FILE_BYTES_MAX} bytes; split it")));
    }
    let text = String::from_utf8(bytes).map_err(|error| problem(format!("is not UTF-8: {error}")))?;
    Ok((name, text))
}

/// Turns every task of the file into a submission; a mistake in one keeps all from being sent.
fn submissions(cluster: &Cluster, file: &Path, name: &str, text: &str) -> Result<Vec<Submission>, CliError> {
    let zones = when::SystemZones::open();
    let here = std::env::current_dir().map_err(|error| CliError::Usage(format!("the current folder: {error}")))?;
    let folder = here.join(file.parent().unwrap_or(Path::new("")));
    let context = Context {
        zones: &zones,
        now: when::now(),
        namespace: cluster.global.namespace(),
        folder: &folder,
    };
    let documents = document::read(name, text).map_err(CliError::Usage)?;
    let mut submissions = Vec::with_capacity(documents.len());
    for (index, document) in documents.iter().enumerate() {
        let submission = document.build(&context).map_err(|problem| {
            let called = document
                .name
                .as_ref()
                .map(|name| format!(" ({name})"))
                .unwrap_or_default();
            CliError::Usage(format!("{name}, task {}{called}: {problem}", index + 1))
        })?;
        submissions.push(submission);
    }
    Ok(submissions)
}

fn progress(tasks: usize) -> ProgressBar {
    if tasks < PROGRESS_FROM {
        return ProgressBar::hidden();
    }
    // Draws on standard error, and only when that is a terminal.
    let bar = ProgressBar::with_draw_target(Some(tasks as u64), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{pos}/{len} tasks {wide_bar} {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Takes the answer to one task; a name that is taken by an equal task is success.
async fn settle(
    cluster: &Cluster,
    submission: &Submission,
    reply: Result<v1::SubmitReply, ClientError>,
) -> Result<Applied, ClientError> {
    let mut failure = match reply {
        Ok(accepted) => {
            return Ok(Applied {
                task: Handle::from(accepted),
                result: "created",
            });
        }
        Err(ClientError::Refused(failure)) if failure.kind() == v1::FailureKind::NameTaken => failure,
        Err(error) => return Err(error),
    };
    let Some(id) = failure.existing_task else {
        return Err(ClientError::Refused(failure));
    };
    for attempt in 1.. {
        match change(cluster, submission, id).await {
            // It has changed since it was read.
            Err(error) if attempt < CONFLICTS_MAX && update::is_conflict(&error) => {}
            Err(ClientError::Refused(refused)) if refused.kind() == v1::FailureKind::WrongState => {
                failure.message = format!(
                    "the name is taken by another definition: {}; `schedcli dequeue {id}` frees the name",
                    refused.message
                );
                return Err(ClientError::Refused(failure));
            }
            outcome => return outcome,
        }
    }
    Err(ClientError::Refused(failure))
}

/// Gives the task that has the name the definition that is wanted, unless it has it.
async fn change(cluster: &Cluster, submission: &Submission, id: u64) -> Result<Applied, ClientError> {
    let existing = cluster
        .client
        .task(&TaskRef::Id(TaskId(id)))
        .await?
        .task
        .unwrap_or_default();
    let accepted_at = Timestamp::from_millis(existing.created_at_unix_ms);
    let Some(stored) = view::spec_of(&existing) else {
        let problem = format!("task {id} has a form that this release does not know; it cannot change it");
        return Err(ClientError::Invalid(sched_core::Reject::Invalid {
            field: "task".to_owned(),
            problem,
        }));
    };
    let generation = existing.generation;
    let different = differences(submission, &stored, accepted_at);
    if different.is_empty() {
        let view = view::TaskView::new(existing);
        let task = Handle {
            id,
            name: view.name,
            state: view.state,
            next_run: view.next_run,
        };
        return Ok(Applied {
            task,
            result: "unchanged",
        });
    }
    let mut spec = submission.spec.clone();
    if !different.contains(&"schedule") {
        // As it was resolved when it was accepted: a delay does not begin anew.
        spec.schedule = stored.schedule;
    }
    let update = Update {
        task: TaskRef::Id(TaskId(id)),
        generation,
        spec,
        late_ok: submission.late_ok,
        starts_when_accepted: submission.starts_when_accepted,
    };
    Ok(Applied {
        task: Handle::from(cluster.client.update(update, None).await?),
        result: "updated",
    })
}

/// Returns the parts in which a task differs from what is wanted.
fn differences(wanted: &Submission, stored: &TaskSpec, accepted_at: Timestamp) -> Vec<&'static str> {
    let spec = &wanted.spec;
    let parts = [
        ("labels", spec.labels == stored.labels),
        ("owner", spec.owner == stored.owner),
        ("description", spec.description == stored.description),
        ("schedule", is_same_schedule(wanted, &stored.schedule, accepted_at)),
        ("action", spec.action == stored.action),
        ("policy", spec.policy.asks_like(&stored.policy)),
        ("bounds", is_same_bounds(&spec.bounds, &stored.bounds)),
    ];
    parts
        .iter()
        .filter(|(_, is_same)| !is_same)
        .map(|(part, _)| *part)
        .collect()
}

/// Whether both bound occurrences alike; the seed of the jitter is the cluster's own.
fn is_same_bounds(wanted: &Bounds, stored: &Bounds) -> bool {
    let plain = |bounds: &Bounds| {
        let mut bounds = bounds.clone();
        if let Some(jitter) = &mut bounds.jitter {
            jitter.seed = 0;
        }
        bounds
    };
    plain(wanted) == plain(stored)
}

/// Whether a stored schedule is what is wanted, as it was resolved when it was accepted.
fn is_same_schedule(wanted: &Submission, stored: &Schedule, accepted_at: Timestamp) -> bool {
    match (&wanted.spec.schedule, stored) {
        (Schedule::In { .. }, Schedule::At(at)) => match wanted.spec.schedule.clone().resolved(accepted_at) {
            Schedule::At(expected) => at.millis_since(expected).abs() <= RESOLVED_WITHIN_MS,
            _ => false,
        },
        (Schedule::Rrule { .. }, Schedule::Rrule { dtstart, .. }) if wanted.starts_when_accepted => {
            let mut expected = wanted.spec.schedule.clone();
            if let Schedule::Rrule { dtstart: begins, .. } = &mut expected {
                *begins = *dtstart;
            }
            expected == *stored
        }
        (wanted, stored) => wanted == stored,
    }
}

/// What was refused, told as it comes and bounded in number.
struct Refusals {
    name: String,
    told: usize,
    code: Option<u8>,
}

impl Refusals {
    fn tell(&mut self, number: usize, spec: &TaskSpec, error: &ClientError) {
        self.told += 1;
        self.code.get_or_insert(REFUSED);
        if self.told <= REFUSALS_TOLD_MAX {
            let called = spec.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            let text = format!("schedcli: {}, task {number}{called}: {error}", self.name);
            output::talk(&output::visible(&text));
        }
    }

    fn outcome(&self) -> Result<(), CliError> {
        if self.told > REFUSALS_TOLD_MAX {
            output::talk(&format!("schedcli: {}: {} tasks were refused", self.name, self.told));
        }
        self.code.map_or(Ok(()), |code| Err(CliError::Said(code)))
    }
}

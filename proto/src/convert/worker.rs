//! Between the stream's messages and the types of `sched-core`, in both directions: the leader's end uses it too.

use crate::worker as pb;
use bytes::Bytes;
use sched_core::limits::{HELD_TOKENS_MAX, OPENINGS_MAX, WORKER_QUEUES_MAX, WORKER_SLOTS_MAX};
use sched_core::run::{RunResult, Verdict};
use sched_core::session::{Disposition, JournalPosition};
pub use sched_core::task::OnDisconnect;
use sched_core::task::{Action, Delivery, ProcessLimits};
use sched_core::{Command, NodeId, RunId, SessionId, TaskId, Timestamp, Token};
use std::time::Duration;

/// The version of the protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// A message that cannot be what its sender meant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has a value that this build does not know.
    #[error("{field} has the value {value}, which this version does not know")]
    Unknown {
        /// Which.
        field: &'static str,
        /// What it was.
        value: i64,
    },
    /// A field is outside its limits.
    #[error("{field} is {value}, expected {expected}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// What it was.
        value: u64,
        /// What would be accepted.
        expected: String,
    },
}

/// An attempt as a worker needs to know it: everything that `Run` carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub token: Token,
    /// The task's namespace.
    pub namespace: String,
    /// The task's name.
    pub task_name: Option<String>,
    /// When the run was to start.
    pub scheduled_at: Timestamp,
    /// Which attempt of the run this is, from 1.
    pub attempt_number: u32,
    /// What to do.
    pub action: Action,
    /// Longest run, after which its whole process tree is killed.
    pub time_limit: Option<Duration>,
    /// Parameters of a manual trigger.
    pub params: Vec<(String, String)>,
    /// Whether the start needs a grant.
    pub delivery: Delivery,
    /// Whether it survives a loss of contact.
    pub on_disconnect: OnDisconnect,
}

/// Returns the wire form of a token.
pub fn token_to_wire(token: Token) -> pb::Token {
    pb::Token {
        index: token.index,
        position: token.position,
    }
}

/// Returns the wire form of a run id.
pub fn run_id_to_wire(run: RunId) -> pb::RunId {
    pb::RunId {
        task: run.task.0,
        number: run.number,
    }
}

/// Returns the wire form of an attempt.
pub fn attempt_to_wire(run: RunId, token: Token) -> pb::Attempt {
    pb::Attempt {
        run: Some(run_id_to_wire(run)),
        token: Some(token_to_wire(token)),
    }
}

/// Reads a run id.
///
/// # Errors
/// It is missing.
pub fn run_id_from_wire(run: Option<pb::RunId>) -> Result<RunId, WireError> {
    let run = run.ok_or(WireError::Missing("run"))?;
    Ok(RunId {
        task: TaskId(run.task),
        number: run.number,
    })
}

/// Reads an attempt.
///
/// # Errors
/// It, or a part of it, is missing.
pub fn attempt_from_wire(attempt: Option<&pb::Attempt>) -> Result<(RunId, Token), WireError> {
    let attempt = attempt.ok_or(WireError::Missing("attempt"))?;
    let token = attempt.token.ok_or(WireError::Missing("attempt.token"))?;
    Ok((
        run_id_from_wire(attempt.run)?,
        Token {
            index: token.index,
            position: token.position,
        },
    ))
}

/// Returns the wire form of a job: the leader's `Run`.
pub fn job_to_wire(job: &Job) -> pb::Run {
    pb::Run {
        attempt: Some(attempt_to_wire(job.run, job.token)),
        namespace: job.namespace.clone(),
        task_name: job.task_name.clone().unwrap_or_default(),
        scheduled_at_ms: job.scheduled_at.as_millis(),
        attempt_number: job.attempt_number,
        action: Some(action_to_wire(&job.action)),
        time_limit_ms: job.time_limit.map(millis),
        params: job.params.iter().map(param).collect(),
        delivery: match job.delivery {
            Delivery::AtLeastOnce => pb::Delivery::AtLeastOnce,
            Delivery::AtMostOnce => pb::Delivery::AtMostOnce,
        }
        .into(),
        on_disconnect: match job.on_disconnect {
            OnDisconnect::Kill => pb::OnDisconnect::Kill,
            OnDisconnect::Continue => pb::OnDisconnect::Continue,
        }
        .into(),
    }
}

/// Reads a job.
///
/// # Errors
/// A part is missing or has a value that this build does not know.
pub fn job_from_wire(run: pb::Run) -> Result<Job, WireError> {
    let (id, token) = attempt_from_wire(run.attempt.as_ref())?;
    Ok(Job {
        run: id,
        token,
        namespace: run.namespace,
        task_name: Some(run.task_name).filter(|name| !name.is_empty()),
        scheduled_at: Timestamp::from_millis(run.scheduled_at_ms),
        attempt_number: run.attempt_number,
        action: action_from_wire(run.action.ok_or(WireError::Missing("action"))?)?,
        time_limit: run.time_limit_ms.map(Duration::from_millis),
        params: run.params.into_iter().map(|p| (p.name, p.value)).collect(),
        delivery: match known::<pb::Delivery>("delivery", run.delivery)? {
            pb::Delivery::Unspecified | pb::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
            pb::Delivery::AtMostOnce => Delivery::AtMostOnce,
        },
        on_disconnect: match known::<pb::OnDisconnect>("on_disconnect", run.on_disconnect)? {
            pb::OnDisconnect::Unspecified | pb::OnDisconnect::Kill => OnDisconnect::Kill,
            pb::OnDisconnect::Continue => OnDisconnect::Continue,
        },
    })
}

/// Returns the wire form of an action.
pub fn action_to_wire(action: &Action) -> pb::Action {
    let kind = match action {
        Action::Command {
            argv,
            env,
            dir,
            stdin,
            success_codes,
            user,
            limits,
        } => pb::action::Kind::Command(pb::CommandAction {
            argv: argv.clone(),
            env: env.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            dir: dir.clone(),
            stdin: Bytes::copy_from_slice(stdin),
            success_codes: success_codes.clone(),
            user: user.clone(),
            limits: Some(pb::ProcessLimits {
                cpu_s: limits.cpu_s,
                memory_bytes: limits.memory_bytes,
                files: limits.files,
            }),
        }),
        Action::Http {
            method,
            url,
            headers,
            body,
            success_statuses,
            timeout_ms,
            expect,
            expect_headers,
        } => pb::action::Kind::Http(pb::HttpAction {
            method: method.clone(),
            url: url.clone(),
            headers: headers.iter().map(param).collect(),
            body: Bytes::copy_from_slice(body),
            success_statuses: success_statuses.iter().map(|s| u32::from(*s)).collect(),
            timeout_ms: *timeout_ms,
            expect: expect.clone(),
            expect_headers: expect_headers.iter().map(param).collect(),
        }),
        Action::Sample {
            succeed,
            duration_ms,
            payload,
        } => pb::action::Kind::Sample(pb::SampleAction {
            succeed: *succeed,
            duration_ms: *duration_ms,
            payload: Bytes::copy_from_slice(payload),
        }),
        Action::Mail {
            from,
            to,
            cc,
            subject,
            text,
        } => pb::action::Kind::Mail(pb::MailAction {
            from: from.clone(),
            to: to.clone(),
            cc: cc.clone(),
            subject: subject.clone(),
            text: text.clone(),
        }),
        Action::Worker {
            queue,
            payload,
            progress_timeout_ms,
        } => pb::action::Kind::Worker(pb::WorkerAction {
            queue: queue.clone(),
            payload: Bytes::copy_from_slice(payload),
            progress_timeout_ms: *progress_timeout_ms,
        }),
    };
    pb::Action { kind: Some(kind) }
}

/// Reads an action.
///
/// # Errors
/// It is of a kind that this build does not know, or a status is not one of HTTP.
pub fn action_from_wire(action: pb::Action) -> Result<Action, WireError> {
    Ok(match action.kind.ok_or(WireError::Missing("action.kind"))? {
        pb::action::Kind::Command(command) => Action::Command {
            argv: command.argv,
            env: command.env.into_iter().collect(),
            dir: command.dir,
            stdin: command.stdin.into(),
            success_codes: command.success_codes,
            user: command.user,
            limits: process_limits(command.limits.unwrap_or_default()),
        },
        pb::action::Kind::Http(http) => Action::Http {
            method: http.method,
            url: http.url,
            headers: http.headers.into_iter().map(|p| (p.name, p.value)).collect(),
            body: http.body.into(),
            success_statuses: http
                .success_statuses
                .into_iter()
                .map(status)
                .collect::<Result<_, _>>()?,
            timeout_ms: http.timeout_ms,
            expect: http.expect,
            expect_headers: http.expect_headers.into_iter().map(|p| (p.name, p.value)).collect(),
        },
        pb::action::Kind::Sample(sample) => Action::Sample {
            succeed: sample.succeed,
            duration_ms: sample.duration_ms,
            payload: sample.payload.into(),
        },
        pb::action::Kind::Mail(mail) => Action::Mail {
            from: mail.from,
            to: mail.to,
            cc: mail.cc,
            subject: mail.subject,
            text: mail.text,
        },
        pb::action::Kind::Worker(worker) => Action::Worker {
            queue: worker.queue,
            payload: worker.payload.into(),
            progress_timeout_ms: worker.progress_timeout_ms,
        },
    })
}

fn process_limits(wire: pb::ProcessLimits) -> ProcessLimits {
    ProcessLimits {
        cpu_s: wire.cpu_s,
        memory_bytes: wire.memory_bytes,
        files: wire.files,
    }
}

/// Returns the wire form of a result. `reason` is for people where the verdict has no place for one.
pub fn result_to_wire(result: &RunResult, reason: &str) -> pb::Result {
    let (verdict, said, delay_ms) = match &result.verdict {
        Verdict::Success => (pb::Verdict::Success, "", 0),
        Verdict::Failure { reason } => (pb::Verdict::Failure, reason.as_str(), 0),
        Verdict::DelayMe { delay_ms, reason } => (pb::Verdict::DelayMe, reason.as_str(), *delay_ms),
        Verdict::Cancelled => (pb::Verdict::Cancelled, reason, 0),
        Verdict::Abandoned {
            reason,
            stopping: false,
        } => (pb::Verdict::Abandoned, reason.as_str(), 0),
        Verdict::Abandoned { reason, stopping: true } => (pb::Verdict::Stopped, reason.as_str(), 0),
        Verdict::Lost { reason } => (pb::Verdict::Lost, reason.as_str(), 0),
    };
    pb::Result {
        verdict: verdict.into(),
        reason: said.to_owned(),
        delay_ms,
        exit_code: result.exit_code,
        started_at_ms: result.started_at.as_millis(),
        ended_at_ms: result.ended_at.as_millis(),
        output_tail: Bytes::copy_from_slice(&result.output_tail),
        result: Bytes::copy_from_slice(&result.result),
    }
}

/// Reads a result; what is too long in it is cut, so that no report is too large to be proposed.
///
/// # Errors
/// The verdict is missing or not known.
pub fn result_from_wire(result: pb::Result) -> Result<RunResult, WireError> {
    let verdict = match known::<pb::Verdict>("result.verdict", result.verdict)? {
        pb::Verdict::Unspecified => return Err(WireError::Missing("result.verdict")),
        pb::Verdict::Success => Verdict::Success,
        pb::Verdict::Failure => Verdict::Failure { reason: result.reason },
        pb::Verdict::DelayMe => Verdict::DelayMe {
            delay_ms: result.delay_ms,
            reason: result.reason,
        },
        pb::Verdict::Cancelled => Verdict::Cancelled,
        pb::Verdict::Abandoned => Verdict::Abandoned {
            reason: result.reason,
            stopping: false,
        },
        pb::Verdict::Stopped => Verdict::Abandoned {
            reason: result.reason,
            stopping: true,
        },
        pb::Verdict::Lost => Verdict::Lost { reason: result.reason },
    };
    let result = RunResult {
        verdict,
        exit_code: result.exit_code,
        started_at: Timestamp::from_millis(result.started_at_ms),
        ended_at: Timestamp::from_millis(result.ended_at_ms),
        output_tail: result.output_tail.into(),
        result: result.result.into(),
    };
    Ok(result.bounded())
}

/// Reads a worker's introduction as the command that opens its session.
///
/// # Errors
/// Another version of the protocol, no slots or too many, too many attempts, or an attempt with a part missing. Names and labels are
/// checked where the command is proposed, with those of the other calls.
pub fn session_open_from_wire(hello: pb::Hello) -> Result<Command, WireError> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(WireError::OutOfRange {
            field: "protocol_version",
            value: hello.protocol_version.into(),
            expected: PROTOCOL_VERSION.to_string(),
        });
    }
    if !(1..=WORKER_SLOTS_MAX).contains(&hello.slots) {
        let expected = format!("1 to {WORKER_SLOTS_MAX}");
        return Err(WireError::OutOfRange {
            field: "slots",
            value: hello.slots.into(),
            expected,
        });
    }
    if hello.held.len() > HELD_TOKENS_MAX {
        let expected = format!("at most {HELD_TOKENS_MAX} attempts");
        return Err(WireError::OutOfRange {
            field: "held",
            value: hello.held.len() as u64,
            expected,
        });
    }
    if hello.queues.len() > WORKER_QUEUES_MAX {
        let expected = format!("at most {WORKER_QUEUES_MAX} queues");
        return Err(WireError::OutOfRange {
            field: "queues",
            value: hello.queues.len() as u64,
            expected,
        });
    }
    if hello.openings.len() > OPENINGS_MAX {
        return Err(WireError::OutOfRange {
            field: "openings",
            value: hello.openings.len() as u64,
            expected: format!("at most {OPENINGS_MAX}"),
        });
    }
    Ok(Command::SessionOpen {
        position: position_from_wire(hello.journal_position.as_ref())?,
        openings: hello.openings,
        worker: hello.worker,
        journal: u128::from(hello.journal_high) << 64 | u128::from(hello.journal_low),
        node: hello.node.map(NodeId),
        slots: hello.slots,
        labels: hello.labels.into_iter().collect(),
        held: hello
            .held
            .iter()
            .map(|held| attempt_from_wire(held.attempt.as_ref()))
            .collect::<Result<_, _>>()?,
        queues: hello.queues.into_iter().collect(),
    })
}

/// Returns the wire form of the end of a journal.
pub fn position_to_wire(position: JournalPosition) -> pb::JournalPosition {
    pb::JournalPosition {
        length: position.length,
        head: Bytes::copy_from_slice(&position.head),
    }
}

/// Reads the end of a journal, where there is one.
///
/// # Errors
/// The hash does not have 16 bytes.
pub fn position_from_wire(position: Option<&pb::JournalPosition>) -> Result<Option<JournalPosition>, WireError> {
    let Some(position) = position else { return Ok(None) };
    let head = position.head.as_ref().try_into().map_err(|_| WireError::OutOfRange {
        field: "journal_position.head",
        value: position.head.len() as u64,
        expected: "16 bytes".to_owned(),
    })?;
    Ok(Some(JournalPosition {
        length: position.length,
        head,
    }))
}

/// Returns the two halves of a journal id, the high one first.
pub fn journal_to_wire(journal: u128) -> (u64, u64) {
    // Both casts keep exactly the bits they are meant to keep.
    ((journal >> 64) as u64, journal as u64)
}

/// Returns the wire form of a session id.
pub fn session_to_wire(session: SessionId) -> pb::Token {
    token_to_wire(session.0)
}

/// Returns the wire form of what to do with a held attempt.
pub fn disposition_to_wire(run: RunId, token: Token, disposition: Disposition) -> pb::Disposition {
    let kind = match disposition {
        Disposition::Continue => pb::DispositionKind::Continue,
        Disposition::Kill => pb::DispositionKind::Kill,
        Disposition::Recorded => pb::DispositionKind::Recorded,
        Disposition::Stale => pb::DispositionKind::Stale,
    };
    pb::Disposition {
        attempt: Some(attempt_to_wire(run, token)),
        kind: kind.into(),
    }
}

/// Reads what to do with a held attempt.
///
/// # Errors
/// The attempt or the kind is missing, or the kind is not known.
pub fn disposition_from_wire(disposition: &pb::Disposition) -> Result<(Token, Disposition), WireError> {
    let (_, token) = attempt_from_wire(disposition.attempt.as_ref())?;
    let kind = match known::<pb::DispositionKind>("disposition.kind", disposition.kind)? {
        pb::DispositionKind::Unspecified => return Err(WireError::Missing("disposition.kind")),
        pb::DispositionKind::Continue => Disposition::Continue,
        pb::DispositionKind::Kill => Disposition::Kill,
        pb::DispositionKind::Recorded => Disposition::Recorded,
        pb::DispositionKind::Stale => Disposition::Stale,
    };
    Ok((token, kind))
}

fn known<E: TryFrom<i32>>(field: &'static str, value: i32) -> Result<E, WireError> {
    E::try_from(value).map_err(|_| WireError::Unknown {
        field,
        value: value.into(),
    })
}

fn status(status: u32) -> Result<u16, WireError> {
    u16::try_from(status).map_err(|_| WireError::OutOfRange {
        field: "action.success_statuses",
        value: status.into(),
        expected: "100 to 599".to_owned(),
    })
}

fn param((name, value): &(String, String)) -> pb::Param {
    pb::Param {
        name: name.clone(),
        value: value.clone(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests;

//! Tasks on the wire, as short as tests want to say them.

use chrono::{DateTime, SecondsFormat, Utc};
use rand::{Rng, RngCore as _};
use sched_client::Submission;
use sched_core::Timestamp;
use sched_proto::convert::from_wire;
use sched_proto::v1;
use sched_proto::v1::action::Kind;
use sched_proto::v1::request_key::Key;
use sched_proto::v1::schedule::Form;
use std::time::Duration;

/// How long a request key of the tests holds: the longest that a node accepts, less a little for clocks that differ.
const KEY_LIFE: Duration = Duration::from_secs(9 * 60);

/// Now, in milliseconds since the Unix epoch, by this machine's clock, which is that of all nodes.
pub fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// An instant as the command line takes and prints it.
pub fn rfc3339(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// An instant that the command line printed.
///
/// # Errors
/// It is not RFC 3339.
pub fn instant_ms(text: &str) -> anyhow::Result<i64> {
    Ok(DateTime::parse_from_rfc3339(text)?.timestamp_millis())
}

/// A key that no other request has.
pub fn request_key() -> v1::RequestKey {
    let expires_at_unix_ms = now_ms().saturating_add(i64::try_from(KEY_LIFE.as_millis()).unwrap_or(0));
    let (nonce_high, nonce_low) = rand::rng().random();
    v1::RequestKey {
        key: Some(Key::Client(v1::ClientKey {
            expires_at_unix_ms,
            nonce_high,
            nonce_low,
        })),
    }
}

/// A request to accept this task.
pub fn submit(task: v1::TaskSpec) -> v1::SubmitRequest {
    v1::SubmitRequest {
        request: Some(request_key()),
        task: Some(task),
        late_ok: false,
    }
}

/// A task with every default.
pub fn task(form: Form, kind: Kind) -> v1::TaskSpec {
    v1::TaskSpec {
        schedule: Some(v1::Schedule { form: Some(form) }),
        action: Some(v1::Action { kind: Some(kind) }),
        ..v1::TaskSpec::default()
    }
}

/// Due at an instant.
pub fn at(at_unix_ms: i64) -> Form {
    Form::At(v1::AtSchedule { at_unix_ms })
}

/// Starts a process.
pub fn command(argv: Vec<String>) -> Kind {
    Kind::Command(v1::CommandAction {
        argv,
        ..v1::CommandAction::default()
    })
}

/// Succeeds after a while, and carries so many bytes: random ones, since what repeats would be compressed on disk.
pub fn sample(duration_ms: u64, payload: usize) -> Kind {
    let mut bytes = vec![0; payload];
    rand::rng().fill_bytes(&mut bytes);
    Kind::Sample(v1::SampleAction {
        succeed: true,
        duration_ms,
        payload: bytes.into(),
    })
}

/// The same task as the client library takes it.
///
/// # Errors
/// It says something that no task could mean.
pub fn submission(task: v1::TaskSpec) -> anyhow::Result<Submission> {
    let spec = from_wire::task_spec(task, Timestamp::from_millis(now_ms()));
    Ok(Submission::new(spec.map_err(|reject| anyhow::anyhow!("{reject:?}"))?))
}

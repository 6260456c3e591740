//! One try to send a notification, and what to make of the answer.

use super::notice::Notice;
use crate::clock;
use crate::shared::Shared;
use crate::worker::WorkerClock;
use crate::worker::executors::{MailExecutor, MailOptions, Outcome, chain, http_client, message_id};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use sched_core::run::Verdict;
use sched_core::task::{Action, NotifyTo};
use std::fmt::Write as _;
use std::time::Duration;

/// For one request.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of one try.
pub(super) enum Sent {
    /// The other side has it.
    Taken,
    /// The other side may take it later.
    Later(String),
    /// A further try would end in the same way.
    Refused(String),
}

/// Sends notifications.
pub(super) struct Sender {
    /// Or why there is none.
    client: Result<Client, String>,
    mail: MailExecutor,
    options: MailOptions,
}

impl Sender {
    pub(super) fn new(shared: &Shared) -> Self {
        let options = shared.mail_options();
        Self {
            client: http_client(),
            mail: MailExecutor::new(options.clone(), WorkerClock::new(clock::boot, clock::wall)),
            options,
        }
    }

    /// Tries once.
    pub(super) async fn send(&self, notice: &Notice) -> Sent {
        match &notice.to {
            NotifyTo::Webhook { url } => self.post(url, notice).await,
            NotifyTo::Mail { to } => self.mail(to, notice).await,
        }
    }

    async fn post(&self, url: &str, notice: &Notice) -> Sent {
        let client = match &self.client {
            Ok(client) => client,
            Err(problem) => return Sent::Refused(problem.clone()),
        };
        let sent = client
            .post(url)
            .timeout(WEBHOOK_TIMEOUT)
            .header("idempotency-key", &notice.key)
            .header(CONTENT_TYPE, "application/json")
            .body(notice.body.to_string())
            .send();
        match sent.await {
            Ok(answer) => judge(answer.status()),
            // Addresses of webhooks are secrets: none goes to the log.
            Err(e) if e.is_builder() => Sent::Refused(chain(&e.without_url())),
            Err(e) => Sent::Later(chain(&e.without_url())),
        }
    }

    async fn mail(&self, to: &str, notice: &Notice) -> Sent {
        if self.options.relay.is_none() || self.options.from.is_none() {
            return Sent::Refused("the node that leads has no --smtp-relay or no --smtp-from".to_owned());
        }
        let mail = Action::Mail {
            from: None,
            to: vec![to.to_owned()],
            cc: Vec::new(),
            subject: notice.subject.clone(),
            text: text(&notice.body),
        };
        let name = format!("notify-{}", notice.key.replace(':', "-"));
        let id = message_id(&name, &(self.options.cluster)());
        match tokio::time::timeout(self.options.timeout, self.mail.deliver(&mail, &id)).await {
            Ok(Ok(_)) => Sent::Taken,
            Ok(Err(outcome)) => judge_relay(outcome),
            Err(_) => Sent::Later("the relay did not answer in time".to_owned()),
        }
    }
}

fn judge(status: StatusCode) -> Sent {
    let problem = format!("answered {status}");
    if status.is_success() {
        Sent::Taken
    } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Sent::Later(problem)
    } else {
        Sent::Refused(problem)
    }
}

fn judge_relay(outcome: Outcome) -> Sent {
    match outcome.verdict {
        Some(Verdict::DelayMe { reason, .. }) => Sent::Later(reason),
        // Without an answer of the relay it was the connection.
        Some(Verdict::Failure { reason }) if outcome.exit_code.is_none() => Sent::Later(reason),
        Some(Verdict::Failure { reason }) => Sent::Refused(reason),
        _ => Sent::Refused("the mail was not sent".to_owned()),
    }
}

/// The same as the JSON, a line for each field.
fn text(body: &serde_json::Value) -> String {
    let mut text = String::new();
    for (key, value) in body.as_object().into_iter().flatten() {
        // Writing into a String cannot fail.
        let _ = match value.as_str() {
            Some(value) => writeln!(text, "{key}: {value}"),
            None => writeln!(text, "{key}: {value}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, again) in [
            (500, true),
            (503, true),
            (429, true),
            (301, false),
            (400, false),
            (404, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            assert_eq!(matches!(judge(status), Sent::Later(_)), again, "{status}");
            assert!(!matches!(judge(status), Sent::Taken), "{status}");
        }
        assert!(matches!(judge(StatusCode::NO_CONTENT), Sent::Taken));
        assert!(matches!(
            judge_relay(Outcome::delay_me(1, "4xx").with_code(451)),
            Sent::Later(_)
        ));
        assert!(matches!(judge_relay(Outcome::failure("no connection")), Sent::Later(_)));
        assert!(matches!(
            judge_relay(Outcome::failure("5xx").with_code(550)),
            Sent::Refused(_)
        ));
    }
}

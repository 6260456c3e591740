//! `mail`: one message, handed to the relay that the worker's node is set up with.
//!
//! What the relay answers decides: taken is success, a 5xx is a failure, a 4xx means later and uses up no try. When no answer comes the
//! mail may or may not be on its way; a further try sends it again under the same `Message-ID`, by which its receivers can tell.

use super::{Executor, Outcome, chain};
use crate::worker::WorkerClock;
use crate::worker::output::OutputWriter;
use crate::worker::stop::{StopSignal, Urgency};
use crate::worker::wire::Job;
use futures::FutureExt;
use futures::future::BoxFuture;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{self, AsyncSmtpTransport};
use lettre::{AsyncTransport, Tokio1Executor};
use sched_core::ids::RunId;
use sched_core::task::Action;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt;

/// For the whole exchange with the relay, unless said otherwise: relays that look a message over take their time before they answer.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// After a temporary refusal. A relay that puts off unknown senders wants to see them again after some minutes.
const DELAY_MS: u64 = 5 * 60 * 1000;
/// Longer passwords are some other file.
const PASSWORD_BYTES_MAX: u64 = 4096;
/// Larger files are no certificates of a few authorities.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// How the connection to a relay is protected.
#[derive(clap::ValueEnum, serde::Serialize, serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "lowercase")]
#[clap(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Not at all: for a relay on the same machine.
    None,
    /// By STARTTLS, without which nothing is sent.
    #[default]
    StartTls,
    /// By TLS from the first byte.
    Tls,
}

/// The relay that takes mails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relay {
    /// Name or address; its certificate must be for it.
    pub host: String,
    /// Usually 587 with STARTTLS, 465 with TLS, 25 without either.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Certificates, PEM, that are trusted beside those of the system; read for each mail.
    pub ca: Option<PathBuf>,
    /// The name to log in with, and the file that holds the password; read for each mail, so that it can be changed.
    pub login: Option<(String, PathBuf)>,
}

/// What mails are sent with.
#[derive(Clone)]
pub struct MailOptions {
    /// Takes them; without one every mail fails.
    pub relay: Option<Relay>,
    /// Of tasks that name no sender.
    pub from: Option<String>,
    /// For the whole exchange with the relay.
    pub timeout: Duration,
    /// Names the cluster, in letters and digits: the same run number in another cluster is another mail.
    pub cluster: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for MailOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailOptions")
            .field("relay", &self.relay)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl Default for MailOptions {
    fn default() -> Self {
        Self {
            relay: None,
            from: None,
            timeout: TIMEOUT_DEFAULT,
            cluster: Arc::new(String::new),
        }
    }
}

/// Sends mails.
pub struct MailExecutor {
    options: MailOptions,
    clock: WorkerClock,
}

impl MailExecutor {
    /// Returns an executor that opens a connection for each mail.
    pub fn new(options: MailOptions, clock: WorkerClock) -> Self {
        Self { options, clock }
    }

    async fn send(&self, job: &Job, output: &mut OutputWriter) -> Outcome {
        let id = self.run_id(job.run);
        match self.deliver(&job.action, &id).await {
            Ok((code, answer)) => {
                output.write(format!("{id} {answer}\n").as_bytes()).await;
                Outcome::success().with_code(code)
            }
            Err(outcome) => outcome,
        }
    }

    fn run_id(&self, run: RunId) -> String {
        message_id(&format!("run-{}-{}", run.task, run.number), &(self.options.cluster)())
    }

    /// Hands a mail to the relay under this `Message-ID`. Returns the relay's answer, as a number and for people.
    ///
    /// # Errors
    /// The outcome that an attempt has of it.
    pub(crate) async fn deliver(&self, mail: &Action, id: &str) -> Result<(i32, String), Outcome> {
        let Some(relay) = &self.options.relay else {
            return Err(Outcome::failure(
                "no mail relay is set up on this worker's node; --smtp-relay HOST:PORT names one",
            ));
        };
        let message = self.message(mail, id).map_err(Outcome::failure)?;
        let transport = transport(relay, self.options.timeout).await.map_err(Outcome::failure)?;
        let response = transport.send(message).await.map_err(|e| refused(relay, &e))?;
        let lines: Vec<_> = response.message().collect();
        let code = u16::from(response.code());
        Ok((
            i32::from(code),
            format!("taken by {}: {code} {}", relay.host, lines.join(" ")),
        ))
    }

    fn message(&self, mail: &Action, id: &str) -> Result<Message, String> {
        let Action::Mail {
            from,
            to,
            cc,
            subject,
            text,
        } = mail
        else {
            return Err(format!("not a mail: {}", mail.kind()));
        };
        let from = from.as_ref().or(self.options.from.as_ref()).ok_or(
            "the task names no sender, nor does this worker's node; --smtp-from ADDRESS names one for all its mails",
        )?;
        let since_epoch = u64::try_from(self.clock.wall().as_millis()).unwrap_or(0);
        let mut message = Message::builder()
            .message_id(Some(id.to_owned()))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch))
            .from(mailbox(from)?)
            .subject(subject.as_str())
            // Keeps answering machines from answering.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(ContentType::TEXT_PLAIN);
        for address in to {
            message = message.to(mailbox(address)?);
        }
        for address in cc {
            message = message.cc(mailbox(address)?);
        }
        message
            .body(text.clone())
            .map_err(|e| format!("no mail can be made of it: {}", chain(&e)))
    }
}

impl Executor for MailExecutor {
    fn execute<'a>(
        &'a self,
        job: &'a Job,
        stop: &'a mut StopSignal,
        output: &'a mut OutputWriter,
    ) -> BoxFuture<'a, Outcome> {
        async move {
            let limit = self.options.timeout;
            tokio::select! {
                done = tokio::time::timeout(limit, self.send(job, output)) => done.unwrap_or_else(|_| {
                    Outcome::failure(format!(
                        "the relay did not answer within {} ms; the mail may be on its way all the same",
                        limit.as_millis()
                    ))
                }),
                () = stop.reached(Urgency::Terminate) => Outcome::stopped(),
            }
        }
        .boxed()
    }
}

/// The same for all attempts of what `name` names, another in every other cluster.
pub(crate) fn message_id(name: &str, cluster: &str) -> String {
    let cluster = if cluster.is_empty() { "cluster" } else { cluster };
    format!("<{name}@{cluster}.sched.invalid>")
}

fn mailbox(address: &str) -> Result<Mailbox, String> {
    let address = address
        .parse()
        .map_err(|e| format!("{address:?} is not a mail address: {e}"))?;
    Ok(Mailbox::new(None, address))
}

async fn transport(relay: &Relay, timeout: Duration) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let parameters = || {
        let mut builder = TlsParameters::builder(relay.host.clone());
        if let Some(file) = &relay.ca {
            let ca = certificates(file).map_err(|e| format!("smtp_ca {}: {e}", file.display()))?;
            builder = builder.add_root_certificate(ca);
        }
        builder
            .build()
            .map_err(|e| format!("TLS with the relay {} cannot be set up: {}", relay.host, chain(&e)))
    };
    let tls = match relay.tls {
        SmtpTls::None => Tls::None,
        SmtpTls::StartTls => Tls::Required(parameters()?),
        SmtpTls::Tls => Tls::Wrapper(parameters()?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(relay.host.as_str())
        .port(relay.port)
        .timeout(Some(timeout))
        .tls(tls);
    if let Some((user, file)) = &relay.login {
        let password = password(file)
            .await
            .map_err(|e| format!("smtp_password_file {}: {e}", file.display()))?;
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    Ok(builder.build())
}

/// Reads the certificates of a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub(crate) fn certificates(file: &Path) -> Result<Certificate, String> {
    let mut pem = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(CA_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|e| e.to_string())?;
    let begins = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(begins.len()).any(|bytes| bytes == begins) {
        let begins = String::from_utf8_lossy(begins);
        return Err(format!(
            "holds no certificate; expected PEM, which begins with {begins}"
        ));
    }
    Certificate::from_pem(&pem).map_err(|e| format!("holds what is no certificate: {}", chain(&e)))
}

/// Reads a password: the file without the end of its last line.
async fn password(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(file).await?;
    file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text).await?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn refused(relay: &Relay, error: &smtp::Error) -> Outcome {
    let reason = format!(
        "the relay {}:{} did not take it: {}",
        relay.host,
        relay.port,
        chain(error)
    );
    let outcome = if error.is_transient() {
        Outcome::delay_me(DELAY_MS, reason)
    } else {
        Outcome::failure(reason)
    };
    match error.status() {
        Some(code) => outcome.with_code(i32::from(u16::from(code))),
        None => outcome,
    }
}

#[cfg(test)]
#[path = "../tests/mail.rs"]
mod tests;

//! `http`: one request, judged by the status of its answer and, where the task asks for it, by the answer's headers and body.
//!
//! Redirects are not followed: the answer is judged as it is. Followed, a POST would silently become a GET, and headers meant for one
//! host would reach another.

use super::{Executor, Outcome, chain};
use crate::worker::WorkerClock;
use crate::worker::output::OutputWriter;
use crate::worker::stop::{StopSignal, Urgency};
use crate::worker::wire::Job;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use sched_core::Timestamp;
use sched_core::task::Action;
use sched_proto::pattern::{Regex, pattern};
use std::time::Duration;

/// Names the run, the same for all its attempts, so that the other side can tell a repeat.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Of an answer, read and kept at most; the rest is not waited for.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// For a task that does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Until a connection is made; the timeout of the whole exchange may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept to one host.
const IDLE_PER_HOST_MAX: usize = 4;
/// Longest delay that `Retry-After` can ask for: a mistake on the other side must not bury the run.
const RETRY_AFTER_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Sends requests.
pub struct HttpExecutor {
    /// Or why there is none: without TLS roots other kinds of runs still go.
    client: Result<Client, String>,
    clock: WorkerClock,
}

impl HttpExecutor {
    /// Returns an executor with its own pool of connections.
    pub fn new(clock: WorkerClock) -> Self {
        Self {
            client: client().map_err(|e| format!("no HTTP client: {e}")),
            clock,
        }
    }

    async fn exchange(&self, job: &Job, output: &mut OutputWriter) -> Outcome {
        let Action::Http {
            success_statuses,
            expect,
            expect_headers,
            ..
        } = &job.action
        else {
            return Outcome::failure(format!("not http: {}", job.action.kind()));
        };
        let expect = match expect.as_deref().map(pattern).transpose() {
            Ok(expect) => expect,
            Err(problem) => return Outcome::failure(format!("expected body: {problem}")),
        };
        let expect_headers = match compiled(expect_headers) {
            Ok(expect_headers) => expect_headers,
            Err(problem) => return Outcome::failure(format!("expected header: {problem}")),
        };
        let client = match &self.client {
            Ok(client) => client,
            Err(reason) => return Outcome::failure(reason.clone()),
        };
        let request = match request(job) {
            Ok(request) => request,
            Err(reason) => return Outcome::failure(reason),
        };
        let mut response = match client.execute(request).await {
            Ok(response) => response,
            Err(e) => return Outcome::failure(chain(&e)),
        };
        let status = response.status();
        let mut outcome = judge(status, response.headers(), success_statuses, self.clock.wall());
        if outcome.verdict == Outcome::success().verdict
            && let Some(problem) = missing_header(response.headers(), &expect_headers)
        {
            outcome = Outcome::failure(format!("answered {status}, but {problem}"));
        }
        output.report_start();
        // The verdict stands by the status; only a success needs its whole answer to be one.
        let succeeded = outcome.verdict == Outcome::success().verdict;
        match (read_body(&mut response, output, expect.is_some()).await, expect) {
            (Err(e), _) if succeeded => Outcome::failure(format!("the answer broke off: {}", chain(&e))),
            (Ok(body), Some(expect)) if succeeded && !expect.is_match(&body) => Outcome::failure(format!(
                "answered {status}, but the body does not match {:?}",
                expect.as_str()
            )),
            _ => outcome,
        }
        .with_code(i32::from(status.as_u16()))
    }
}

impl Executor for HttpExecutor {
    fn execute<'a>(
        &'a self,
        job: &'a Job,
        stop: &'a mut StopSignal,
        output: &'a mut OutputWriter,
    ) -> BoxFuture<'a, Outcome> {
        async move {
            let limit = timeout_of(&job.action);
            tokio::select! {
                done = tokio::time::timeout(limit, self.exchange(job, output)) => done.unwrap_or_else(|_| {
                    Outcome::failure(format!("no full answer within {} ms", limit.as_millis()))
                }),
                () = stop.reached(Urgency::Terminate) => Outcome::stopped(),
            }
        }
        .boxed()
    }
}

/// Returns a client that follows no redirects, with a pool of its own.
pub(crate) fn client() -> Result<Client, String> {
    // Building a client without a provider would panic; the daemon installs one first thing.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err("no TLS provider is installed in this process".to_owned());
    }
    Client::builder()
        .user_agent(concat!("sched/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| chain(&e))
}

fn timeout_of(action: &Action) -> Duration {
    match action {
        Action::Http { timeout_ms, .. } if *timeout_ms > 0 => Duration::from_millis(*timeout_ms),
        _ => TIMEOUT_DEFAULT,
    }
}

fn request(job: &Job) -> Result<Request, String> {
    let Action::Http {
        method,
        url,
        headers,
        body,
        ..
    } = &job.action
    else {
        return Err(format!("not http: {}", job.action.kind()));
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is not an HTTP method"))?;
    let url = Url::parse(url).map_err(|e| format!("{url:?} is not an address: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{url} is not an http or https address"));
    }
    let mut request = Request::new(method, url);
    let run = HeaderValue::try_from(job.run.to_string()).map_err(|e| e.to_string())?;
    request.headers_mut().insert(IDEMPOTENCY_KEY, run);
    let mut own_key = false;
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is not the name of a header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| format!("the value of header {name} is not allowed"))?;
        if name == IDEMPOTENCY_KEY && !std::mem::replace(&mut own_key, true) {
            request.headers_mut().remove(IDEMPOTENCY_KEY);
        }
        request.headers_mut().append(name, value);
    }
    if !body.is_empty() {
        *request.body_mut() = Some(body.clone().into());
    }
    Ok(request)
}

fn judge(status: StatusCode, headers: &HeaderMap, success: &[u16], now: Timestamp) -> Outcome {
    let succeeded = match success {
        [] => status.is_success(),
        listed => listed.contains(&status.as_u16()),
    };
    if succeeded {
        return Outcome::success();
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        && let Some(delay_ms) = headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after_ms(value.to_str().ok()?, now))
    {
        return Outcome::delay_me(delay_ms, format!("answered {status} with Retry-After"));
    }
    let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    match target.filter(|_| status.is_redirection()) {
        Some(target) => Outcome::failure(format!(
            "answered {status} to {target:.200}; redirects are not followed, name that address instead"
        )),
        None => Outcome::failure(format!("answered {status}")),
    }
}

/// Names of headers with the expressions that one of their values must match.
fn compiled(expected: &[(String, String)]) -> Result<Vec<(&str, Regex)>, String> {
    expected
        .iter()
        .map(|(name, text)| Ok((name.as_str(), pattern(text)?)))
        .collect()
}

/// Says which of the expected headers is not there, or is not as expected.
fn missing_header(headers: &HeaderMap, expected: &[(&str, Regex)]) -> Option<String> {
    let is_met = |(name, regex): &&(&str, Regex)| {
        let mut values = headers.get_all(*name).into_iter();
        values.any(|value| regex.is_match(value.as_bytes()))
    };
    let (name, regex) = expected.iter().find(|expected| !is_met(expected))?;
    Some(match headers.get(*name) {
        None => format!("without header {name}"),
        Some(value) => {
            let value = String::from_utf8_lossy(value.as_bytes());
            let pattern = regex.as_str();
            format!("header {name} is {value:.200?} and does not match {pattern:?}")
        }
    })
}

/// Reads seconds or a date.
fn retry_after_ms(value: &str, now: Timestamp) -> Option<u64> {
    let value = value.trim();
    let ms = match value.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1000),
        Err(_) => u64::try_from(http_date(value)?.millis_since(now)).unwrap_or(0),
    };
    Some(ms.min(RETRY_AFTER_MS_MAX))
}

/// Reads a date in any of the three forms that HTTP has: today's, and two that nobody should send any more.
fn http_date(text: &str) -> Option<Timestamp> {
    let today = || Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp());
    let former = |format: &str| {
        let civil = jiff::civil::DateTime::strptime(format, text).ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let at = today()
        .or_else(|| former("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|| former("%a %b %e %H:%M:%S %Y"))?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

/// Passes the beginning of the body on to the output, and returns it when it is to be kept.
async fn read_body(response: &mut Response, output: &mut OutputWriter, keep: bool) -> Result<Vec<u8>, reqwest::Error> {
    let (mut room, mut kept) = (BODY_BYTES_MAX, Vec::new());
    while let Some(chunk) = response.chunk().await? {
        let take = chunk.len().min(room);
        output.write(&chunk[..take]).await;
        if keep {
            kept.extend_from_slice(&chunk[..take]);
        }
        room -= take;
        if room == 0 {
            break;
        }
    }
    Ok(kept)
}

#[cfg(test)]
#[path = "../tests/http.rs"]
mod tests;

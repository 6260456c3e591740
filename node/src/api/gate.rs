//! Before every call of a client: admission, and passing it on to the leader when another node leads.
//!
//! A call is passed on as it is, without decoding it, at most once. Every answer names the leader, so that the client goes there directly next
//! time.

use super::errors;
use super::origin::{self, Source};
use crate::shared::Shared;
use http::{HeaderValue, Request, Response};
use sched_proto::convert;
use sched_proto::metadata::{FORWARDED_FOR, HERE, LEADER, ORIGIN};
use sched_proto::v1::FailureKind;
use sched_raft::{Leader, Origin, Role};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::{Service, ServiceExt};

/// How long a call waits for an election to end. The client's own deadline may be shorter.
const LEADER_WAIT: Duration = Duration::from_secs(2);
/// Before a call that was refused for want of room is tried again.
const RETRY_AFTER_MS: u64 = 250;

/// Where a call is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Where it comes in.
    Here,
    /// At the leader.
    Leader,
}

/// How long a call may last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Length {
    /// As long as a proposal or a read takes; counted.
    Short,
    /// Until the caller has enough; counted where it is answered.
    Long,
}

/// Runs are read at the leader, which alone knows their progress, unless the caller wants to know what this node holds.
fn class(path: &str, here: bool) -> (Place, Length) {
    match path.rsplit('/').next().unwrap_or_default() {
        "GetRun" | "ListRuns" if here => (Place::Here, Length::Short),
        "Status" | "Nodes" | "Check" | "GetTask" | "Explain" | "ListTasks" | "ShowSpool" | "GetConfig"
        | "GetCalendar" | "ListCalendars" => (Place::Here, Length::Short),
        "Wait" => (Place::Here, Length::Long),
        "Logs" | "SubmitStream" => (Place::Leader, Length::Long),
        _ => (Place::Leader, Length::Short),
    }
}

/// The scheduler's service with what comes before it.
#[derive(Clone)]
pub(super) struct Gate<S> {
    shared: Arc<Shared>,
    calls: Arc<Semaphore>,
    inner: S,
}

impl<S> Gate<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        let calls = Arc::new(Semaphore::new(shared.config.calls_max as usize));
        Self { shared, calls, inner }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The generated service is always ready; what is taken in is bounded below.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.clone();
        Box::pin(async move {
            let shared = gate.shared.clone();
            let mut response = match gate.pass(request).await {
                Ok(response) => response,
                Err(status) => status.into_http(),
            };
            if let Some(leader) = shared.leader_address()
                && let Ok(value) = HeaderValue::try_from(leader)
            {
                response.headers_mut().insert(LEADER, value);
            }
            Ok(response)
        })
    }
}

impl<S> Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    async fn pass(mut self, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.shared.counters.calls.add(1);
        let (place, length) = class(request.uri().path(), request.headers().contains_key(HERE));
        let source = Source::of(request.headers(), request.extensions().get());
        let origin = source.origin();
        let _admitted = match length {
            Length::Short => Some(source.admit(&self.calls).map_err(|problem| {
                self.shared.counters.overloaded.add(1);
                errors::overloaded(problem, RETRY_AFTER_MS)
            })?),
            Length::Long => None,
        };
        let elsewhere = match place {
            Place::Here => None,
            Place::Leader => find_leader(&self.shared, request.headers().contains_key(FORWARDED_FOR)).await?,
        };
        match elsewhere {
            None => match self.inner.ready().await {
                // The service's own error type has no values.
                Ok(service) => origin::answering(origin, service.call(request))
                    .await
                    .map_err(|never| match never {}),
                Err(never) => match never {},
            },
            Some(leader) => forward(&self.shared, request, leader, origin).await,
        }
    }
}

/// Returns where to pass the call on, or nothing when this node leads. Waits for an election to end.
async fn find_leader(shared: &Shared, forwarded: bool) -> Result<Option<Leader>, Status> {
    let this = shared.replica.node();
    let mut roles = shared.replica.roles();
    let decided = |role: &Role| {
        // This node won an election and has not applied everything yet: soon it has.
        let soon = !role.leading && role.leader.as_ref().is_some_and(|leader| leader.node == this);
        role.leading || (role.leader.is_some() && !soon)
    };
    let known = timeout(LEADER_WAIT, roles.wait_for(decided)).await;
    let role = match known {
        Ok(Ok(role)) => role.clone(),
        Ok(Err(_)) => return Err(errors::stopping()),
        Err(_) => {
            let text = "no leader is known, the cluster has no quorum or an election is under way";
            return Err(convert::status(&convert::failure(FailureKind::NoQuorum, text)));
        }
    };
    if role.leading {
        return Ok(None);
    }
    if forwarded {
        let address = role.leader.as_ref().map(|leader| leader.client_address.as_str());
        return Err(convert::status(&convert::not_leader(address)));
    }
    Ok(role.leader)
}

async fn forward(
    shared: &Shared,
    mut request: Request<Body>,
    leader: Leader,
    origin: Origin,
) -> Result<Response<Body>, Status> {
    shared.counters.forwarded.add(1);
    let unknown = |text: String| convert::status(&convert::failure(FailureKind::OutcomeUnknown, text));
    let address = leader.client_address;
    let Some(channel) = shared.channels.get(&address) else {
        return Err(unknown(format!("the leader's address {address:?} cannot be dialled")));
    };
    let term = shared.replica.roles().borrow().term;
    let mark = format!("{},{term}", shared.replica.node());
    if let Ok(mark) = HeaderValue::try_from(mark) {
        request.headers_mut().insert(FORWARDED_FOR, mark);
    }
    request.headers_mut().insert(ORIGIN, origin.0.into());
    let answer = channel.oneshot(request);
    tokio::select! {
        answer = answer => answer.map_err(|e| unknown(format!("the leader at {address} did not answer: {e}"))),
        () = deposed(shared.replica.roles(), &address) => {
            Err(unknown(format!("the leader at {address} was deposed before it answered")))
        }
    }
}

/// Ready when another node leads.
async fn deposed(mut roles: watch::Receiver<Role>, address: &str) {
    let other = |role: &Role| {
        role.leader
            .as_ref()
            .is_some_and(|leader| leader.client_address != address)
    };
    if roles.wait_for(other).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sched_proto::v1::scheduler_server::SERVICE_NAME;

    #[test]
    fn calls_that_change_something_are_answered_by_the_leader() {
        for (method, expected) in [
            ("Submit", (Place::Leader, Length::Short)),
            ("SubmitStream", (Place::Leader, Length::Long)),
            ("ClearSpool", (Place::Leader, Length::Short)),
            ("SetConfig", (Place::Leader, Length::Short)),
            ("GetConfig", (Place::Here, Length::Short)),
            ("Update", (Place::Leader, Length::Short)),
            ("DeleteHistory", (Place::Leader, Length::Short)),
            ("SetCalendar", (Place::Leader, Length::Short)),
            ("GetCalendar", (Place::Here, Length::Short)),
            ("Status", (Place::Here, Length::Short)),
            ("ListTasks", (Place::Here, Length::Short)),
            ("ListRuns", (Place::Leader, Length::Short)),
            ("Wait", (Place::Here, Length::Long)),
            ("Logs", (Place::Leader, Length::Long)),
        ] {
            assert_eq!(class(&format!("/{SERVICE_NAME}/{method}"), false), expected, "{method}");
        }
    }

    #[test]
    fn only_reads_are_answered_elsewhere_when_told_to() {
        for (method, expected) in [
            ("Submit", Place::Leader),
            ("Complete", Place::Leader),
            ("Logs", Place::Leader),
            ("ListRuns", Place::Here),
            ("GetRun", Place::Here),
        ] {
            assert_eq!(
                class(&format!("/{SERVICE_NAME}/{method}"), true).0,
                expected,
                "{method}"
            );
        }
    }
}

//! How an attempt is told to end: first asked, then killed, with the first cause kept.

use std::future::pending;
use std::time::Duration;
use tokio::sync::watch;

/// How urgently an attempt is to end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Urgency {
    /// It goes on.
    #[default]
    None,
    /// It is asked to end: SIGTERM.
    Terminate,
    /// It is ended: SIGKILL to the whole tree.
    Kill,
}

/// Why an attempt is told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The leader said so.
    Cancelled,
    /// It ran longer than its task allows.
    TimeLimit(Duration),
    /// It did not tell its progress for as long as its task allows.
    NoProgress(Duration),
    /// The worker lost contact with the leader: the attempt may be started elsewhere.
    ContactLost,
    /// The worker is stopping.
    Leaving,
    /// Another attempt has taken its place.
    Stale,
}

impl Cause {
    /// Returns what is logged and reported.
    pub fn describe(self) -> String {
        match self {
            Cause::Cancelled => "cancelled".to_owned(),
            Cause::TimeLimit(limit) => format!("killed: it ran longer than its time limit of {} ms", limit.as_millis()),
            Cause::NoProgress(limit) => format!(
                "killed: it told no progress for {} ms, its progress timeout",
                limit.as_millis()
            ),
            Cause::ContactLost => "killed: the worker lost contact with the leader".to_owned(),
            Cause::Leaving => "killed: the worker is stopping".to_owned(),
            Cause::Stale => "killed: another attempt has taken its place".to_owned(),
        }
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Order {
    urgency: Urgency,
    cause: Option<Cause>,
}

/// The end that gives the order. Clones give it to the same attempt.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Order>);

impl Default for Stopper {
    fn default() -> Self {
        Self::new()
    }
}

impl Stopper {
    /// Returns a stopper whose attempt goes on.
    pub fn new() -> Self {
        Self(watch::Sender::new(Order::default()))
    }

    /// Returns the end that obeys.
    pub fn signal(&self) -> StopSignal {
        StopSignal(self.0.subscribe())
    }

    /// Raises the urgency; never lowers it. The first cause stays: what came later did not end the attempt.
    pub fn raise(&self, urgency: Urgency, cause: Cause) {
        self.0.send_if_modified(|order| {
            if urgency <= order.urgency {
                return false;
            }
            order.urgency = urgency;
            order.cause.get_or_insert(cause);
            true
        });
    }

    /// Returns why the attempt was told to end, if it was.
    pub fn cause(&self) -> Option<Cause> {
        self.0.borrow().cause
    }
}

/// The end that obeys.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<Order>);

impl StopSignal {
    /// Returns how urgent it is now.
    pub fn urgency(&self) -> Urgency {
        self.0.borrow().urgency
    }

    /// Returns why it was told to end, if it was.
    pub fn cause(&self) -> Option<Cause> {
        self.0.borrow().cause
    }

    /// Waits until it is at least this urgent. Forgetting the wait loses nothing.
    pub async fn reached(&mut self, urgency: Urgency) {
        if self.0.wait_for(|order| order.urgency >= urgency).await.is_err() {
            // Nobody is left who could give the order.
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urgency_only_rises_and_the_first_cause_stays() {
        let stopper = Stopper::new();
        let mut signal = stopper.signal();
        assert_eq!((signal.urgency(), stopper.cause()), (Urgency::None, None));
        stopper.raise(Urgency::Terminate, Cause::Cancelled);
        signal.reached(Urgency::Terminate).await;
        stopper.raise(Urgency::Kill, Cause::ContactLost);
        signal.reached(Urgency::Terminate).await;
        signal.reached(Urgency::Kill).await;
        stopper.raise(Urgency::Terminate, Cause::Leaving);
        assert_eq!(
            (signal.urgency(), stopper.cause()),
            (Urgency::Kill, Some(Cause::Cancelled))
        );
    }
}

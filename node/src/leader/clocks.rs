//! Compares this leader's time with the other voters' clocks.
//!
//! Leader time follows the median of the voters' clocks, slowly. When it is too far from the majority, or the state's time is too far ahead,
//! nothing is fired, and another node gets the chance to lead.

use super::Term;
use crate::clock;
use crate::shared::{OrStop, Shared};
use crate::state;
use sched_proto::metadata;
use sched_proto::v1::StatusRequest;
use sched_proto::v1::scheduler_client::SchedulerClient;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Request;

/// Between two comparisons.
const PERIOD: Duration = Duration::from_secs(5);
/// For one answer. A late one says little about the clock.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How far leader time may be from the majority's.
const APART_MS_MAX: i64 = 500;
/// A difference that the way of the messages explains is none.
const NOISE_MS: i64 = 5;
/// For another node to take over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// One voter's clock, compared with this node's leader time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Difference {
    /// Its client address.
    pub(crate) address: String,
    /// How far it is ahead; negative when behind.
    pub(crate) ahead_ms: i64,
}

/// Compares clocks until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>) {
    loop {
        let voters = shared.replica.members().iter().filter(|member| member.voter).count();
        let differences = compare(&shared).await;
        let verdict = judge(
            voters,
            differences.iter().map(|d| d.ahead_ms).collect(),
            state_ahead(&shared),
        );
        match verdict {
            Verdict::Unknown => {}
            Verdict::Fine { ahead_ms } => {
                if ahead_ms.abs() > NOISE_MS {
                    shared.clock.slew(ahead_ms, PERIOD);
                }
                if term.clock_apart.swap(false, Ordering::Relaxed) {
                    tracing::warn!(term = term.number, "clocks agree again, tasks are fired again");
                    term.ticker.poke(sched_core::Timestamp::MIN);
                }
            }
            Verdict::Apart { what, ms } => {
                term.clock_apart.store(true, Ordering::Relaxed);
                tracing::error!(
                    term = term.number,
                    ms,
                    "{what}: nothing is fired; check the clocks (NTP) of all nodes"
                );
                if let Err(e) = shared.replica.hand_over(HAND_OVER_TIMEOUT).await {
                    tracing::warn!(error = %e, term = term.number, "leadership not handed over");
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// How far the state's time is ahead of leader time.
fn state_ahead(shared: &Shared) -> i64 {
    state::meta(&shared.replica.view())
        .or_stop()
        .now
        .millis_since(shared.clock.now())
}

/// Asks every other voter for its clock. Those that do not answer in time are left out.
pub(crate) async fn compare(shared: &Shared) -> Vec<Difference> {
    let this = shared.replica.node();
    let others = shared
        .replica
        .members()
        .into_iter()
        .filter(|member| member.voter && member.node != this);
    let asked = others.map(|member| ask(shared, member.client_address));
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

async fn ask(shared: &Shared, address: String) -> Option<Difference> {
    let mut client = SchedulerClient::new(shared.channels.get(&address)?);
    let mut request = Request::new(StatusRequest {});
    // It shall answer itself, not ask its leader.
    metadata::set_forwarded_for(request.metadata_mut(), shared.replica.node().0, 0);
    let sent = clock::boot();
    let reply = timeout(ANSWER_TIMEOUT, client.status(request))
        .await
        .ok()?
        .ok()?
        .into_inner();
    let way_ms = i64::try_from((clock::boot() - sent).as_millis() / 2).unwrap_or(0);
    let ahead_ms = reply.now_unix_ms.saturating_add(way_ms) - shared.clock.now().as_millis();
    Some(Difference { address, ahead_ms })
}

#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    /// Too few answered.
    Unknown,
    Fine {
        ahead_ms: i64,
    },
    Apart {
        what: &'static str,
        ms: i64,
    },
}

/// Judges by the median of all voters that answered, this node among them, when they are a majority.
fn judge(voters: usize, mut ahead_ms: Vec<i64>, state_ahead_ms: i64) -> Verdict {
    ahead_ms.push(0);
    if ahead_ms.len() <= voters / 2 {
        return Verdict::Unknown;
    }
    ahead_ms.sort_unstable();
    // Of two in the middle, the one closer to this node's own: two nodes alone cannot tell who is wrong.
    let (lower, upper) = (ahead_ms[(ahead_ms.len() - 1) / 2], ahead_ms[ahead_ms.len() / 2]);
    let median = if lower.abs() <= upper.abs() { lower } else { upper };
    if median.abs() > APART_MS_MAX {
        return Verdict::Apart {
            what: "this leader's clock is apart from the majority's",
            ms: -median,
        };
    }
    let state_ahead_ms = state_ahead_ms - median;
    if state_ahead_ms > APART_MS_MAX {
        return Verdict::Apart {
            what: "the time of the state is ahead of the majority's clocks",
            ms: state_ahead_ms,
        };
    }
    Verdict::Fine { ahead_ms: median }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_decides_who_is_apart() {
        assert_eq!(judge(3, vec![], 0), Verdict::Unknown);
        assert_eq!(judge(1, vec![], -5), Verdict::Fine { ahead_ms: 0 });
        assert_eq!(judge(3, vec![3, 9000], 0), Verdict::Fine { ahead_ms: 3 });
        assert_eq!(
            judge(3, vec![9000], 0),
            Verdict::Fine { ahead_ms: 0 },
            "of two nobody knows"
        );
        assert!(matches!(judge(3, vec![900, 1000], 0), Verdict::Apart { ms: -900, .. }));
        assert!(matches!(judge(3, vec![-900, -1000], 0), Verdict::Apart { ms: 900, .. }));
        assert!(matches!(judge(3, vec![1, 2], 60_000), Verdict::Apart { .. }));
    }
}

//! Compares this leader's time with the other voters' clocks.
//!
//! Leader time follows the median of the voters' clocks, slowly. When it is too far from the majority, or the state's time is too far ahead,
//! nothing is fired. Another node gets the chance to lead when a majority agrees on another time; when no majority agrees on any, as when
//! of three nodes one is away and one is wrong, only the one whose clock is farther from the state's time makes way, so that leadership
//! does not go back and forth.

use super::Term;
use crate::clock;
use crate::shared::{OrStop, Shared, cluster_of};
use crate::state;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sched_proto::metadata;
use sched_proto::v1::scheduler_client::SchedulerClient;
use sched_proto::v1::{StatusReply, StatusRequest};
use sched_raft::Member;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Request;

/// Between two comparisons.
const PERIOD: Duration = Duration::from_secs(5);
/// Before the first comparison is tried again, as long as no majority answers, and before the second, which asks all voters.
const AGAIN: Duration = Duration::from_millis(200);
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
    /// Its number.
    pub(crate) node: u64,
    /// Its client address.
    pub(crate) address: String,
    /// How far it is ahead; negative when behind.
    pub(crate) ahead_ms: i64,
}

/// Compares clocks until the term is over. Nothing is fired before the first comparison, which ends as soon as a majority has answered.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>) {
    let mut first = true;
    loop {
        let voters = shared.replica.members().iter().filter(|member| member.voter).count();
        let mut verdict = Verdict::Unknown;
        if first {
            verdict = look(&shared, voters, voters / 2).await.0;
        }
        // What the first to answer do not settle, the others may.
        if !first || !matches!(verdict, Verdict::Fine { .. } | Verdict::Unknown) {
            let (found, differences) = look(&shared, voters, voters).await;
            verdict = found;
            told(&term, differences);
        }
        term.state_ahead.store(false, Ordering::Relaxed);
        let pause = match verdict {
            Verdict::Unknown => PERIOD,
            Verdict::Fine { ahead_ms } => {
                fine(&shared, &term, ahead_ms, first);
                PERIOD
            }
            Verdict::Apart { ms } => {
                shared.clock.confirm(false);
                apart(&term, "this leader's clock is apart from the majority's", ms);
                if let Err(e) = shared.replica.hand_over(HAND_OVER_TIMEOUT).await {
                    tracing::warn!(error = %e, term = term.number, "leadership not handed over");
                }
                PERIOD
            }
            Verdict::Unsettled { ms, make_way } => {
                shared.clock.confirm(false);
                apart(
                    &term,
                    "no majority of the voters' clocks agrees with this leader's or on another time",
                    ms,
                );
                if make_way && let Err(e) = shared.replica.hand_over(HAND_OVER_TIMEOUT).await {
                    tracing::warn!(error = %e, term = term.number, "leadership not handed over");
                }
                PERIOD
            }
            Verdict::StateAhead { ms } => {
                // Every leader would find the same: it passes with time or by an operator's word, not with another leader.
                shared.clock.confirm(true);
                term.state_ahead.store(true, Ordering::Relaxed);
                apart(&term, "the time of the state is ahead of the majority's clocks", ms);
                PERIOD
            }
        };
        // All voters are asked soon: one whose clock is wrong is to be known.
        let pause = if first { AGAIN } else { pause };
        first &= verdict == Verdict::Unknown;
        tokio::time::sleep(pause).await;
    }
}

/// Compares until so many have answered, and judges.
async fn look(shared: &Shared, voters: usize, enough: usize) -> (Verdict, Vec<Difference>) {
    let differences = compare(shared, enough).await;
    let ahead_ms = differences.iter().map(|d| d.ahead_ms).collect();
    (judge(voters, ahead_ms, state_ahead(shared)), differences)
}

/// Keeps what was found, and says of each clock once that it is apart, and that it no longer is.
fn told(term: &Term, found: Vec<Difference>) {
    let mut known = term.clocks();
    for new in &found {
        let was = known.iter().any(|old| old.node == new.node && old.is_apart());
        let (node, address, ahead_ms) = (new.node, &new.address, new.ahead_ms);
        match (was, new.is_apart()) {
            (false, true) => tracing::error!(
                node,
                address,
                ahead_ms,
                term = term.number,
                "a voter's clock is apart from leader time: set it (NTP)"
            ),
            (true, false) => tracing::info!(node, address, term = term.number, "a voter's clock is right again"),
            _ => {}
        }
    }
    *known = found;
}

impl Difference {
    fn is_apart(&self) -> bool {
        self.ahead_ms.saturating_abs() > APART_MS_MAX
    }
}

fn fine(shared: &Shared, term: &Term, ahead_ms: i64, first: bool) {
    shared.clock.confirm(true);
    // The second comparison follows the first at once.
    if !first && ahead_ms.abs() > NOISE_MS {
        shared.clock.slew(ahead_ms, PERIOD);
    }
    if term.clock_apart.swap(false, Ordering::Relaxed) {
        if !first {
            tracing::warn!(term = term.number, "clocks agree again, tasks are fired again");
        }
        term.ticker.poke(sched_core::Timestamp::MIN);
    }
}

fn apart(term: &Term, what: &str, ms: i64) {
    term.clock_apart.store(true, Ordering::Relaxed);
    tracing::error!(
        term = term.number,
        ms,
        "{what}: nothing is fired; check the clocks (NTP) of all nodes"
    );
}

impl Term {
    /// Returns leader time, when a majority's clocks confirm it and the state's time is too far ahead of them.
    pub(crate) fn state_ahead_of(&self, shared: &Shared) -> Option<sched_core::Timestamp> {
        self.state_ahead.load(Ordering::Relaxed).then(|| shared.clock.now())
    }
}

/// How far the state's time is ahead of leader time.
fn state_ahead(shared: &Shared) -> i64 {
    state::meta(&shared.replica.view())
        .or_stop()
        .now
        .millis_since(shared.clock.now())
}

/// Asks every other voter for its clock, until so many have answered. Those that do not answer in time are left out.
pub(crate) async fn compare(shared: &Shared, enough: usize) -> Vec<Difference> {
    let this = shared.replica.node();
    let others = shared
        .replica
        .members()
        .into_iter()
        .filter(|member| member.voter && member.node != this);
    let mut asked: FuturesUnordered<_> = others.map(|member| ask(shared, member)).collect();
    let mut answers = Vec::new();
    while answers.len() < enough
        && let Some(answer) = asked.next().await
    {
        answers.extend(answer);
    }
    answers
}

async fn ask(shared: &Shared, member: Member) -> Option<Difference> {
    let (reply, way_ms) = status_of(shared, &member).await?;
    let ahead_ms = reply
        .now_unix_ms
        .saturating_add(way_ms)
        .saturating_sub(shared.clock.now().as_millis());
    Some(Difference {
        node: member.node.0,
        address: member.client_address,
        ahead_ms,
    })
}

/// Returns what a member says of itself, and how many milliseconds ago that was. At its address another node may be by now, of another
/// cluster even: what that one says counts for nothing.
pub(super) async fn status_of(shared: &Shared, member: &Member) -> Option<(StatusReply, i64)> {
    let mut client = SchedulerClient::new(shared.channels.get(&member.client_address)?);
    let mut request = Request::new(StatusRequest {});
    // It shall answer itself, not ask its leader.
    metadata::set_forwarded_for(request.metadata_mut(), shared.replica.node().0, 0);
    let sent = clock::boot();
    let reply = timeout(ANSWER_TIMEOUT, client.status(request))
        .await
        .ok()?
        .ok()?
        .into_inner();
    let cluster = cluster_of(&shared.replica.formation().borrow());
    if reply.node != member.node.0 || reply.cluster != cluster {
        return None;
    }
    let way_ms = i64::try_from((clock::boot() - sent).as_millis() / 2).unwrap_or(0);
    Some((reply, way_ms))
}

#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    /// Too few answered.
    Unknown,
    Fine {
        ahead_ms: i64,
    },
    /// This node's clock is so far ahead of the majority's, which agree with each other.
    Apart {
        ms: i64,
    },
    /// No majority agrees on any time; this node's clock is so far ahead of the farthest. It makes way when another voter's is closer to
    /// the state's time, the last that a majority confirmed: that says nothing about who is right, but ends the search for a leader.
    Unsettled {
        ms: i64,
        make_way: bool,
    },
    /// The state's time is.
    StateAhead {
        ms: i64,
    },
}

/// Judges by the clocks of all voters that answered, this node's among them, when they are a majority. Leader time is fine only while a
/// majority of all voters is close to it: of two that differ nobody knows which is right.
fn judge(voters: usize, mut ahead_ms: Vec<i64>, state_ahead_ms: i64) -> Verdict {
    ahead_ms.push(0);
    if ahead_ms.len() <= voters / 2 {
        return Verdict::Unknown;
    }
    ahead_ms.sort_unstable();
    let near = |a: i64, b: i64| a.saturating_sub(b).saturating_abs();
    let majority_at = |middle: i64| {
        ahead_ms
            .iter()
            .filter(|ahead| near(**ahead, middle) <= APART_MS_MAX)
            .count()
            > voters / 2
    };
    // Of two in the middle, the one closer to this node's own.
    let (lower, upper) = (ahead_ms[(ahead_ms.len() - 1) / 2], ahead_ms[ahead_ms.len() / 2]);
    let median = if near(lower, 0) <= near(upper, 0) { lower } else { upper };
    if !majority_at(0) {
        if ahead_ms.iter().any(|ahead| majority_at(*ahead)) {
            return Verdict::Apart {
                ms: median.saturating_neg(),
            };
        }
        let farthest = ahead_ms
            .iter()
            .copied()
            .max_by_key(|ahead| near(*ahead, 0))
            .unwrap_or(0);
        let closest = ahead_ms
            .iter()
            .map(|ahead| near(*ahead, state_ahead_ms))
            .min()
            .unwrap_or(0);
        return Verdict::Unsettled {
            ms: farthest.saturating_neg(),
            make_way: near(0, state_ahead_ms) > closest.saturating_add(APART_MS_MAX),
        };
    }
    let state_ahead_ms = state_ahead_ms.saturating_sub(median);
    if state_ahead_ms > APART_MS_MAX {
        return Verdict::StateAhead { ms: state_ahead_ms };
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
            Verdict::Unsettled {
                ms: -9000,
                make_way: false
            },
            "of two nobody knows"
        );
        // The state's time was confirmed once: who is farther from it makes way, and only who is.
        for (others, state_ahead_ms, ms, make_way) in [
            (vec![9000], 9100, -9000, true),
            (vec![-9000], -9100, 9000, true),
            (vec![-9000], -100, 9000, false),
            (vec![9000, -9000], -100, -9000, false),
            (vec![i64::MAX], i64::MIN, -i64::MAX, false),
        ] {
            assert_eq!(
                judge(3, others.clone(), state_ahead_ms),
                Verdict::Unsettled { ms, make_way },
                "{others:?} {state_ahead_ms}"
            );
        }
        assert_eq!(judge(5, vec![1, 9000, 9100, 9200], 0), Verdict::Apart { ms: -9000 });
        assert_eq!(judge(3, vec![400], 0), Verdict::Fine { ahead_ms: 0 });
        assert_eq!(judge(5, vec![1, 2, 9000, -9000], 0), Verdict::Fine { ahead_ms: 1 });
        assert_eq!(judge(3, vec![900, 1000], 0), Verdict::Apart { ms: -900 });
        assert_eq!(judge(3, vec![-900, -1000], 0), Verdict::Apart { ms: 900 });
        assert_eq!(judge(3, vec![1, 2], 60_000), Verdict::StateAhead { ms: 59_999 });
        assert_eq!(judge(1, vec![], 60_000), Verdict::StateAhead { ms: 60_000 });
    }
}

//! What the other members say of themselves: the room on their disks, and what is wrong with their workers.
//!
//! While no majority of the voters has room on its disks, work that would fill them further is refused.
//! One disk that is low stops nobody: its node stops when it is full, and the others go on without it. But a leader on it makes way for a
//! voter that has room.

use super::Term;
use crate::leader::clocks;
use crate::shared::Shared;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sched_core::Reject;
use sched_proto::v1::WorkerFault;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at the others.
const PERIOD: Duration = Duration::from_secs(1);
/// For another node to take over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to have another node take over: each is an election.
const HAND_OVER_EVERY: Duration = Duration::from_secs(60);
/// Before a call that was refused for want of room is tried again: as long as it takes to notice that there is some.
const RETRY_AFTER_MS: u64 = 1000;

/// Looks at the disks of all voters until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>) {
    let mut asked_to_go = None;
    loop {
        let (low, faulty, verdict) = look(&shared).await;
        tell(&term, &faulty);
        *term.faulty_workers() = faulty;
        let before = term.no_room.swap(verdict == Verdict::Refuse, Ordering::Relaxed);
        *term.low_disks() = low;
        match (before, verdict == Verdict::Refuse) {
            (false, true) => tracing::error!(
                term = term.number,
                "too few voters have room on their disks: new work is refused"
            ),
            (true, false) => tracing::info!(
                term = term.number,
                "enough voters have room on their disks: new work is taken again"
            ),
            _ => {}
        }
        let again = asked_to_go.is_none_or(|at: Instant| at.elapsed() >= HAND_OVER_EVERY);
        if verdict == Verdict::MakeWay && again {
            asked_to_go = Some(Instant::now());
            tracing::warn!(
                term = term.number,
                "this leader's disk is low: another node should lead"
            );
            if let Err(e) = shared.replica.hand_over(HAND_OVER_TIMEOUT).await {
                tracing::warn!(error = %e, term = term.number, "leadership not handed over");
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Refuses work that would fill the disks further while too few of them have room.
///
/// # Errors
/// A refusal that may pass: a repeat of a call whose outcome is unknown must not be told that nothing was done.
pub(crate) fn check(shared: &Shared) -> Result<(), Reject> {
    let Some(term) = shared.terms.current().filter(|term| term.refuses_work()) else {
        return Ok(());
    };
    let nodes: Vec<String> = term.low_disks().iter().map(ToString::to_string).collect();
    Err(Reject::Overloaded {
        what: format!(
            "too few nodes have room on their disks for new work (below disk_reserve_mib: node {}); make room there, or delete tasks and runs",
            nodes.join(", node ")
        ),
        retry_after_ms: RETRY_AFTER_MS,
    })
}

/// Says once of each worker that takes no runs what is wrong with it.
fn tell(term: &Term, faulty: &BTreeMap<u64, WorkerFault>) {
    let known = term.faulty_workers();
    for (node, WorkerFault { worker, reason }) in faulty.iter().filter(|(node, _)| !known.contains_key(node)) {
        tracing::error!(
            node,
            worker,
            reason,
            term = term.number,
            "a node's own worker takes no runs"
        );
    }
}

/// Asks every other member about its disk and its worker. Only the disks of voters count.
async fn look(shared: &Shared) -> (BTreeSet<u64>, BTreeMap<u64, WorkerFault>, Verdict) {
    let this = shared.replica.node();
    let members = shared.replica.members();
    let others = members.iter().filter(|member| member.node != this);
    let mut asked: FuturesUnordered<_> = others
        .map(|member| async { (member.voter, clocks::status_of(shared, member).await) })
        .collect();
    let own = shared.disk.is_low();
    let (mut low, mut faulty, mut fine) = (BTreeSet::new(), BTreeMap::new(), usize::from(!own));
    if own {
        low.insert(this.0);
    }
    while let Some((voter, answer)) = asked.next().await {
        let Some((reply, _)) = answer else { continue };
        let itself = reply.nodes.into_iter().find(|node| node.id == reply.node);
        match &itself {
            _ if !voter => {}
            Some(node) if node.disk_low => {
                low.insert(reply.node);
            }
            _ => fine += 1,
        }
        if let Some(fault) = itself.and_then(|node| node.worker_fault) {
            faulty.insert(reply.node, fault);
        }
    }
    let voters = members.iter().filter(|member| member.voter).count();
    let verdict = judge(voters, low.len(), fine, own);
    (low, faulty, verdict)
}

#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Fine,
    /// Others have room, this leader has not.
    MakeWay,
    /// What is full soon would take the majority with it.
    Refuse,
}

/// Judges by those that are low and those known to have room; a voter that does not answer counts as neither.
fn judge(voters: usize, low: usize, fine: usize, own: bool) -> Verdict {
    match (low, fine > voters / 2) {
        (0, _) => Verdict::Fine,
        (_, false) => Verdict::Refuse,
        (_, true) if own => Verdict::MakeWay,
        (_, true) => Verdict::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_work_is_refused_when_the_majority_would_be_full() {
        for (voters, low, fine, own, expected) in [
            (1, 0, 1, false, Verdict::Fine),
            (1, 1, 0, true, Verdict::Refuse),
            (3, 0, 3, false, Verdict::Fine),
            // Nobody is low: a voter that is away is no reason to refuse anything.
            (3, 0, 1, false, Verdict::Fine),
            (3, 1, 2, false, Verdict::Fine),
            (3, 1, 2, true, Verdict::MakeWay),
            (3, 2, 1, false, Verdict::Refuse),
            // One is low and one is away: the majority needs the one that is low.
            (3, 1, 1, false, Verdict::Refuse),
            (5, 2, 3, true, Verdict::MakeWay),
            (5, 3, 2, false, Verdict::Refuse),
        ] {
            assert_eq!(
                judge(voters, low, fine, own),
                expected,
                "{low} of {voters} low, {fine} fine"
            );
        }
    }
}

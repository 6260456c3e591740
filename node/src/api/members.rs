//! Who belongs to the cluster, who votes, who leads: what an operator may change, and what is refused because it would cost the quorum.

use super::errors;
use crate::shared::Shared;
use sched_core::NodeId;
use sched_core::command::Reject;
use sched_proto::convert;
use sched_proto::v1::change_members_request::Change;
use sched_proto::v1::{ChangeMembersRequest, FailureKind, HandOver, ReplaceMember};
use sched_raft::{Member, RaftError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// More voters make every write slower and hardly any cluster safer.
const VOTERS_MAX: usize = 5;
/// A member that is further behind would hold up every write as soon as its vote counts: about a second of entries at full load.
const LAG_ENTRIES_MAX: u64 = 1000;
/// How long another voter may take to lead.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);
/// A member that runs is heard within this by a new leader: two of the longest election timeouts. Less than a client waits for an answer.
const HEARD: Duration = Duration::from_secs(1);
/// Heartbeats come as often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a change comes down to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Steps {
    /// Exactly these vote afterwards; absent when they are those that vote now.
    voters: Option<BTreeSet<NodeId>>,
    /// Leaves for ever.
    leaves: Option<NodeId>,
    /// Another voter leads first: this one is about to go.
    hand_over: bool,
}

/// Carries out one change.
///
/// # Errors
/// It would cost the quorum or makes no sense, or this node does not lead any more: the caller goes to the next leader and asks again.
pub(super) async fn change(shared: &Shared, call: ChangeMembersRequest) -> Result<(), Status> {
    let change = call
        .change
        .ok_or_else(|| errors::invalid("change", "none; expected promote, demote, remove, replace or hand_over"))?;
    let replica = &shared.replica;
    let steps = decided(shared, change)
        .await
        .map_err(|reject| errors::rejected(&reject))?;
    tracing::info!(?change, ?steps, "the membership is to be changed");
    let only_hand_over = matches!(change, Change::HandOver(_));
    if steps.hand_over {
        replica.hand_over(HAND_OVER_TIMEOUT).await.map_err(|e| refused(&e))?;
        if only_hand_over {
            return Ok(());
        }
        // The new leader does the rest: the client goes there by itself.
        let leader = shared.leader_elsewhere();
        return Err(convert::status(&convert::not_leader(leader.as_deref())));
    }
    if let Some(voters) = steps.voters {
        let voters = voters.into_iter().collect();
        replica.change_voters(voters).await.map_err(|e| refused(&e))?;
    }
    if let Some(node) = steps.leaves {
        replica.remove(node).await.map_err(|e| refused(&e))?;
    }
    Ok(())
}

/// Decides what is to be done. A leader that has just been elected has not heard of all members yet: it looks again before it refuses.
async fn decided(shared: &Shared, change: Change) -> Result<Steps, Reject> {
    let (replica, heard_by) = (&shared.replica, Instant::now() + HEARD);
    loop {
        let members = replica.members();
        let silent = members.iter().any(|member| member.reachable != Some(true));
        match steps(&members, replica.node(), change) {
            Err(_) if silent && leads_newly(shared) && Instant::now() < heard_by => {
                tokio::time::sleep(LOOK_AGAIN).await
            }
            decided => return decided,
        }
    }
}

/// Whether this node leads since so short a time that a member it has not heard of may well be there.
fn leads_newly(shared: &Shared) -> bool {
    match shared.terms.current() {
        Some(term) => term.began.elapsed() < HEARD,
        // Its duties are about to begin, if it leads at all.
        None => shared.replica.roles().borrow().leading,
    }
}

fn refused(error: &RaftError) -> Status {
    let kind = match error {
        RaftError::NotLeader { leader } => {
            let address = leader.as_ref().map(|leader| leader.client_address.as_str());
            return convert::status(&convert::not_leader(address));
        }
        RaftError::Timeout { .. } => FailureKind::OutcomeUnknown,
        RaftError::Stopped(_) => FailureKind::Stopping,
        _ => FailureKind::WrongState,
    };
    convert::status(&convert::failure(kind, error.to_string()))
}

/// Decides what is to be done, as the leader `this` sees the members.
fn steps(members: &[Member], this: NodeId, change: Change) -> Result<Steps, Reject> {
    let voters: BTreeSet<NodeId> = members.iter().filter(|m| m.voter).map(|m| m.node).collect();
    let mut after = voters.clone();
    let mut leaves = None;
    match change {
        Change::Promote(node) => {
            votes_next(find(members, node)?)?;
            after.insert(NodeId(node));
        }
        Change::Demote(node) => {
            find(members, node)?;
            after.remove(&NodeId(node));
        }
        Change::Remove(node) => {
            find(members, node)?;
            after.remove(&NodeId(node));
            leaves = Some(NodeId(node));
        }
        Change::Replace(ReplaceMember { old, new }) => {
            votes_next(find(members, new)?)?;
            after.insert(NodeId(new));
            // Gone already: the answer to an earlier call was lost.
            if find(members, old).is_ok() {
                after.remove(&NodeId(old));
                leaves = Some(NodeId(old));
            }
            if old == new {
                return Err(wrong(old, "both the old and the new one", "name two nodes"));
            }
        }
        Change::HandOver(HandOver { from }) => {
            return Ok(Steps {
                hand_over: from == 0 || NodeId(from) == this,
                ..Steps::default()
            });
        }
    }
    check_quorum(members, this, &after)?;
    let gone = voters.contains(&this) && !after.contains(&this);
    Ok(Steps {
        voters: (after != voters && !gone).then_some(after),
        leaves: leaves.filter(|_| !gone),
        hand_over: gone,
    })
}

fn find(members: &[Member], node: u64) -> Result<&Member, Reject> {
    let found = members.iter().find(|member| member.node.0 == node);
    found.ok_or_else(|| Reject::NotFound {
        what: format!("node {node}"),
    })
}

/// Whether a member can vote from now on without holding the others up.
fn votes_next(member: &Member) -> Result<(), Reject> {
    let node = member.node.0;
    match member {
        Member { voter: true, .. } => Ok(()),
        Member {
            reachable: Some(true),
            lag_entries: Some(lag),
            ..
        } if *lag <= LAG_ENTRIES_MAX => Ok(()),
        Member {
            reachable: Some(true),
            lag_entries: Some(lag),
            ..
        } => Err(wrong(
            node,
            &format!("{lag} entries behind"),
            &format!("it may vote when it is within {LAG_ENTRIES_MAX}; wait and try again"),
        )),
        _ => Err(wrong(node, "not reachable", "start it, wait and try again")),
    }
}

/// Refuses voters of whom the leader does not reach a majority: the change could be committed and nothing after it.
fn check_quorum(members: &[Member], this: NodeId, after: &BTreeSet<NodeId>) -> Result<(), Reject> {
    let invalid = |problem: String| Reject::Invalid {
        field: "change".to_owned(),
        problem,
    };
    if after.is_empty() {
        return Err(invalid("no voter would be left; promote another node first".to_owned()));
    }
    if after.len() > VOTERS_MAX {
        let count = after.len();
        return Err(invalid(format!(
            "{count} nodes would vote; at most {VOTERS_MAX} can, demote or remove one first"
        )));
    }
    let reached = members
        .iter()
        .filter(|member| after.contains(&member.node))
        .filter(|member| member.node == this || member.reachable == Some(true))
        .count();
    let majority = after.len() / 2 + 1;
    if reached < majority {
        return Err(invalid(format!(
            "of the {} voters afterwards the leader reaches {reached}, a majority is {majority}; start the others, or replace them first",
            after.len()
        )));
    }
    Ok(())
}

fn wrong(node: u64, state: &str, expected: &str) -> Reject {
    Reject::WrongState {
        what: format!("node {node}"),
        state: state.to_owned(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    /// Voters 1 to 3, of which 3 is down, and learners 4 (near) and 5 (far behind). Node 1 leads.
    fn members() -> Vec<Member> {
        let member = |node, voter, reachable, lag| Member {
            refuses: None,
            node: NodeId(node),
            peer_address: format!("n{node}:7500"),
            client_address: format!("n{node}:7400"),
            voter,
            reachable: Some(reachable),
            lag_entries: Some(lag),
        };
        vec![
            member(1, true, true, 0),
            member(2, true, true, 1),
            member(3, true, false, 900_000),
            member(4, false, true, 7),
            member(5, false, true, 5_000),
        ]
    }

    fn ids(nodes: &[u64]) -> Option<BTreeSet<NodeId>> {
        Some(nodes.iter().copied().map(NodeId).collect())
    }

    #[test]
    fn what_can_be_done_is_done_in_as_few_steps_as_it_takes() {
        let replace = |old, new| Change::Replace(ReplaceMember { old, new });
        type Expected = (Change, Option<BTreeSet<NodeId>>, Option<u64>, bool);
        let table: &[Expected] = &[
            (Change::Promote(4), ids(&[1, 2, 3, 4]), None, false),
            // A repeat of what is already so.
            (Change::Promote(2), None, None, false),
            (Change::Demote(4), None, None, false),
            (Change::Demote(3), ids(&[1, 2]), None, false),
            (Change::Remove(3), ids(&[1, 2]), Some(3), false),
            (Change::Remove(5), None, Some(5), false),
            (replace(3, 4), ids(&[1, 2, 4]), Some(3), false),
            (replace(77, 2), None, None, false),
            // The leader goes: another one leads first and does the rest.
            (replace(1, 4), None, None, true),
            (Change::HandOver(HandOver { from: 0 }), None, None, true),
            (Change::HandOver(HandOver { from: 1 }), None, None, true),
            // It did already: the answer to an earlier call was lost.
            (Change::HandOver(HandOver { from: 2 }), None, None, false),
        ];
        for (change, voters, leaves, hand_over) in table {
            let expected = Steps {
                voters: voters.clone(),
                leaves: leaves.map(NodeId),
                hand_over: *hand_over,
            };
            assert_eq!(steps(&members(), NodeId(1), *change), Ok(expected), "{change:?}");
        }
    }

    #[test]
    fn what_would_cost_the_quorum_is_refused() {
        let replace = |old, new| Change::Replace(ReplaceMember { old, new });
        let table = [
            (Change::Promote(9), "node 9 does not exist"),
            (Change::Promote(5), "5000 entries behind"),
            // Two voters would be left, of which one is down.
            (Change::Demote(2), "reaches 1, a majority is 2"),
            (Change::Remove(2), "reaches 1, a majority is 2"),
            (replace(3, 5), "5000 entries behind"),
            (replace(3, 9), "node 9 does not exist"),
            (replace(2, 2), "name two nodes"),
        ];
        for (change, why) in table {
            let error = steps(&members(), NodeId(1), change).unwrap_err().to_string();
            assert!(error.contains(why), "{change:?}: {error}");
        }
        let alone = &members()[..1];
        let error = steps(alone, NodeId(1), Change::Remove(1)).unwrap_err().to_string();
        assert!(error.contains("no voter would be left"), "{error}");
        let mut down = members();
        down[3].reachable = Some(false);
        let error = steps(&down, NodeId(1), Change::Promote(4)).unwrap_err().to_string();
        assert!(error.contains("not reachable"), "{error}");
    }
}

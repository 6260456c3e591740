//! Who belongs to the cluster, as it is parsed.

use clap::{Args, Subcommand};

pub(super) const HELP: &str = "A new node is started with `schednode run --join HOST:PORT,…`; it learns first, and votes when it is promoted.\n\n\
    Example, a dead node replaced:\n  \
    schednode run --data-dir n4 --join 127.0.0.1:7501 …\n  \
    schedcli nodes\n  \
    schedcli cluster replace 2727720470948378077 6815090047935392201";

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterVerb {
    /// Let a node vote; it waits until the node has caught up. At most five vote, and three or five make sense
    Promote(NodeId),
    /// Let a voter only learn
    Demote(NodeId),
    /// Take a node out for ever: it cannot come back with its data folder
    Remove(NodeId),
    /// Let one node vote and take another one out, in one step
    Replace(Replace),
    /// Let another voter lead
    HandOver,
}

#[derive(Args, Debug)]
pub(crate) struct NodeId {
    /// Its number, as `schedcli nodes` shows it
    #[arg(value_name = "NODE")]
    pub(crate) node: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Replace {
    /// The node that leaves
    #[arg(value_name = "OLD")]
    pub(crate) old: u64,
    /// The member that votes from now on
    #[arg(value_name = "NEW")]
    pub(crate) new: u64,
}

//! Connections to the other members, dialled by name when first used and again whenever they broke.

use super::MESSAGE_BYTES_MAX;
use super::acked::Acked;
use super::refusals::Refusals;
use crate::transport::{Channel, Dialer, Error};
use crate::types::Place;
use sched_proto::peer::Route;
use sched_proto::peer::peer_client::PeerClient;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(crate) type Client = PeerClient<Channel>;

/// The connections to one member. Each carries what must not wait behind the others.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) place: Place,
    /// The log.
    pub(crate) log: Client,
    /// Votes, heartbeats, read indexes: small and urgent.
    pub(crate) control: Client,
    /// Snapshots.
    pub(crate) bulk: Client,
}

/// Who this node is among its peers, and how to reach them.
pub(crate) struct Peers {
    me: u64,
    group: u32,
    cluster: OnceLock<[u8; 16]>,
    dialer: Dialer,
    peers: Mutex<BTreeMap<u64, Peer>>,
    /// What the members have acknowledged to this node as leader.
    pub(crate) acked: Acked,
    /// Who refuses this node's messages, and why.
    pub(crate) refusals: Refusals,
}

impl Peers {
    pub(crate) fn new(me: u64, group: u32, cluster: Option<[u8; 16]>, dialer: Dialer) -> Arc<Self> {
        let known = OnceLock::new();
        if let Some(cluster) = cluster {
            // A new cell is empty.
            let _ = known.set(cluster);
        }
        Arc::new(Self {
            me,
            group,
            cluster: known,
            dialer,
            peers: Mutex::new(BTreeMap::new()),
            acked: Acked::default(),
            refusals: Refusals::default(),
        })
    }

    pub(crate) fn me(&self) -> u64 {
        self.me
    }

    pub(crate) fn group(&self) -> u32 {
        self.group
    }

    /// Returns the cluster this node belongs to, once it does.
    pub(crate) fn cluster(&self) -> Option<[u8; 16]> {
        self.cluster.get().copied()
    }

    /// Makes this node a member of `cluster`, which must be durable by now. The first one stays.
    pub(crate) fn set_cluster(&self, cluster: [u8; 16]) {
        let _ = self.cluster.set(cluster);
    }

    /// Returns the route of a message to `to`; nothing before this node belongs to a cluster.
    pub(crate) fn route(&self, to: u64) -> Option<Route> {
        let cluster = self.cluster()?;
        Some(Route {
            cluster: cluster.to_vec().into(),
            from: self.me,
            to,
            group: self.group,
        })
    }

    /// Remembers where a member is; its connections are dropped when it moved.
    ///
    /// # Errors
    /// The address is none; memberships are only written with checked ones.
    pub(crate) fn place(&self, node: u64, place: &Place) -> Result<Peer, Error> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers
            .get(&node)
            .filter(|peer| peer.place.peer_address == place.peer_address)
        {
            return Ok(peer.clone());
        }
        let connect = || self.dial(&place.peer_address);
        let peer = Peer {
            place: place.clone(),
            log: connect()?,
            control: connect()?,
            bulk: connect()?,
        };
        peers.insert(node, peer.clone());
        Ok(peer)
    }

    /// Returns a client for an address, with the limits of this protocol; it dials when it is used.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn dial(&self, address: &str) -> Result<Client, Error> {
        Ok(PeerClient::new(self.dialer.channel(address)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Returns the connections to a member, if one of that number was ever told of.
    pub(crate) fn get(&self, node: u64) -> Option<Peer> {
        self.peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&node)
            .cloned()
    }

    /// Forgets those that are no members any more.
    pub(crate) fn keep(&self, members: &BTreeMap<u64, Place>) {
        self.peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|node, _| members.contains_key(node));
        self.refusals.keep(members);
    }
}

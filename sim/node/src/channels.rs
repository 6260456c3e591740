//! Connections to the client ports of other nodes.

pub(crate) use sim_ground::Channel;
use sim_ground::Port;

/// Dials from one life of a node.
pub(crate) struct Channels(pub(crate) Port);

impl Channels {
    /// Returns the connection to an address.
    pub(crate) fn get(&self, address: &str) -> Option<Channel> {
        Some(Channel::new(&self.0, address))
    }
}

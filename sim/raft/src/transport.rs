//! Dials and serves peers on the simulated network.

use crate::net::MESSAGE_BYTES_MAX;
use crate::net::service::Service;
use sched_proto::peer::peer_server::PeerServer;
pub(crate) use sched_storage::{Channel, NetError as Error};
use std::io;
use tokio_util::sync::CancellationToken;

/// One life of a node on the network.
pub(crate) type Listener = sched_storage::Port;
pub(crate) type Opened = sched_storage::Port;

pub(crate) fn open(listener: &Listener) -> io::Result<Opened> {
    Ok(listener.clone())
}

/// Serves peers until `stop` or the end of the node's life.
pub(crate) async fn serve(port: Opened, service: Service, stop: CancellationToken) {
    let service = PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let address = format!("{}:7500", port.host);
    sched_storage::serve_until(port, address, service, stop).await;
}

pub(crate) struct Dialer(Listener);

impl Dialer {
    pub(crate) fn of(listener: &Listener) -> Self {
        Self(listener.clone())
    }

    pub(crate) fn channel(&self, address: &str) -> Result<Channel, Error> {
        Ok(Channel::new(&self.0, address))
    }
}

//! The worker inside this node: it uses the same stream as a remote one, dialled to whichever node leads.

use crate::clock;
use crate::shared::Shared;
use crate::worker::output::OutputLimits;
use crate::worker::{GRACE_DEFAULT, Worker, WorkerClock, WorkerError, WorkerHandle, WorkerOptions, WorkerStatus};
use sched_raft::Role;
use sched_storage::DataDir;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The node's own worker.
pub(crate) struct Embedded {
    handle: Arc<WorkerHandle>,
    leader: JoinHandle<()>,
}

impl Embedded {
    /// Starts the worker.
    pub(crate) fn start(shared: &Arc<Shared>, data: &DataDir, supervisor: PathBuf) -> Result<Self, WorkerError> {
        let (tx, rx) = watch::channel(None);
        let handle = Worker::start(WorkerOptions {
            name: shared.config.name.clone(),
            slots: shared.config.slots,
            labels: shared.config.labels.clone(),
            node: Some(shared.replica.node()),
            dir: data.worker_dir(),
            leader: rx,
            clock: WorkerClock::new(clock::boot, clock::wall),
            output: OutputLimits::default(),
            grace: GRACE_DEFAULT,
            supervisor: Some(supervisor),
            containment: shared.config.containment,
            mail: shared.mail_options(),
        })?;
        let leader = tokio::spawn(follow_leader(shared.clone(), tx));
        tokio::spawn(follow_journal(shared.clone(), handle.status()));
        Ok(Self {
            handle: Arc::new(handle),
            leader,
        })
    }

    /// Takes no new runs from now on; what runs has this long to end.
    pub(crate) fn begin_drain(&self, patience: Duration) {
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.drain(patience).await });
    }

    /// Waits until the worker has ended.
    pub(crate) async fn stop(self, patience: Duration) {
        self.handle.drain(patience).await;
        self.leader.abort();
    }
}

/// Tells the worker where the leader is. This node is reached by loopback, whatever it advertises to others.
async fn follow_leader(shared: Arc<Shared>, to: watch::Sender<Option<String>>) {
    let this = shared.replica.node();
    let own = own_address(shared.config.listen);
    let mut roles = shared.replica.roles();
    loop {
        let address = address(&roles.borrow_and_update(), this, &own);
        to.send_if_modified(|known| {
            let changed = *known != address;
            known.clone_from(&address);
            changed
        });
        if roles.changed().await.is_err() {
            return;
        }
    }
}

/// Notes it when the journal cannot be written any more.
async fn follow_journal(shared: Arc<Shared>, mut status: watch::Receiver<WorkerStatus>) {
    let failed = status
        .wait_for(|status| status.journal_failure.is_some() || status.gone)
        .await;
    if let Some(reason) = failed.ok().and_then(|status| status.journal_failure.clone()) {
        let advice = "the worker takes no more runs: mend or replace the disk, and start the node again";
        shared
            .worker_fault
            .set(format!("the worker's journal cannot be written: {reason}; {advice}"));
    }
}

fn address(role: &Role, this: sched_core::NodeId, own: &str) -> Option<String> {
    let leader = role.leader.as_ref()?;
    Some(if leader.node == this {
        own.to_owned()
    } else {
        leader.client_address.clone()
    })
}

/// Where this node reaches itself.
fn own_address(listen: SocketAddr) -> String {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_is_reached_by_loopback() {
        for (listen, own) in [
            ("0.0.0.0:7400", "127.0.0.1:7400"),
            ("[::]:7400", "[::1]:7400"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.1.2.3:7400", "10.1.2.3:7400"),
        ] {
            assert_eq!(own_address(listen.parse().unwrap()), own);
        }
    }
}

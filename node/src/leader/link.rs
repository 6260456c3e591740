//! The connection of one worker, from the leader's end: messages out, and pieces of output back.

use sched_proto::worker::{OutputChunk, OutputRequest, ToWorker};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages that wait for one worker's connection. A worker that does not read is disconnected and finds everything again.
const LINK_MESSAGES_MAX: usize = 4096;
/// Requests for output that wait for one worker.
const LINK_OUTPUTS_MAX: usize = 256;

/// One connection of a worker.
pub(crate) struct Link {
    tx: mpsc::Sender<Result<ToWorker, Status>>,
    /// Ends the connection from this side.
    gone: CancellationToken,
    outputs: Mutex<HashMap<u64, oneshot::Sender<OutputChunk>>>,
    next_output: AtomicU64,
}

/// Why output could not be read from a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OutputError {
    /// The worker is not connected, or the connection ended.
    Unreachable,
    /// Too many requests wait for it.
    Busy,
}

impl Link {
    /// Returns a connection and the messages to write on it.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Result<ToWorker, Status>>) {
        let (tx, rx) = mpsc::channel(LINK_MESSAGES_MAX);
        let link = Self {
            tx,
            gone: CancellationToken::new(),
            outputs: Mutex::default(),
            next_output: AtomicU64::new(1),
        };
        (Arc::new(link), rx)
    }

    /// Queues a message. A worker that reads too slowly loses its connection: what it missed is sent again after the next Hello.
    pub(crate) fn send(&self, message: ToWorker) {
        if self.tx.try_send(Ok(message)).is_err() {
            self.gone.cancel();
        }
    }

    /// Queues the last message and ends the connection.
    pub(crate) fn send_last(&self, message: ToWorker) {
        self.send(message);
        self.gone.cancel();
    }

    /// Ends the connection.
    pub(crate) fn end(&self) {
        self.gone.cancel();
    }

    /// Ready when the connection shall end.
    pub(crate) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    fn outputs(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<OutputChunk>>> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a piece of output. `make` gets the number of the request.
    pub(crate) async fn output(&self, mut request: OutputRequest) -> Result<OutputChunk, OutputError> {
        let (tx, rx) = oneshot::channel();
        request.request = self.next_output.fetch_add(1, Ordering::Relaxed);
        let number = request.request;
        {
            let mut outputs = self.outputs();
            outputs.retain(|_, waiting| !waiting.is_closed());
            if outputs.len() >= LINK_OUTPUTS_MAX {
                return Err(OutputError::Busy);
            }
            outputs.insert(number, tx);
        }
        self.send(ToWorker {
            output_requests: vec![request],
            ..ToWorker::default()
        });
        tokio::select! {
            chunk = rx => chunk.map_err(|_| OutputError::Unreachable),
            () = self.gone() => Err(OutputError::Unreachable),
        }
    }

    /// Hands a piece of output to whoever asked for it.
    pub(crate) fn deliver(&self, chunk: OutputChunk) {
        if let Some(waiting) = self.outputs().remove(&chunk.request) {
            // Whoever asked may have left.
            let _ = waiting.send(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_read_loses_its_connection() {
        let (link, _rx) = Link::new();
        for _ in 0..LINK_MESSAGES_MAX {
            link.send(ToWorker::default());
        }
        assert!(!link.gone.is_cancelled());
        link.send(ToWorker::default());
        assert!(link.gone.is_cancelled());
    }
}

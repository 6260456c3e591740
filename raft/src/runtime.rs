//! What a replica runs on besides its disk and its sockets: tasks, timers and chance for consensus, threads for what blocks.

use tokio::task::JoinError;

/// The runtime of consensus.
pub(crate) type Runtime = openraft::impls::TokioRuntime;

/// Runs `work` off the async threads; a panic in it is an error.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

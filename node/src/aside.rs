//! Work beside the threads that serve.

use sched_proto::convert;
use sched_proto::v1::FailureKind;
use tonic::Status;

/// Runs something that computes for long or reads much, off the threads that serve.
///
/// # Errors
/// It panicked: a fault in the program, told to the caller and not repeated.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        tracing::error!(error = %e, "work aside failed");
        convert::status(&convert::failure(
            FailureKind::Internal,
            "a fault in the node; its log has more",
        ))
    })
}

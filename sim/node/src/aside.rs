//! Work aside is done at once: there are no other threads, and the clock stands still meanwhile.

use tonic::Status;

/// Runs something that computes for long or reads much.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    Ok(work())
}

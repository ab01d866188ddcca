//! Work that waits for a disk or computes for long, beside the threads that answer.

/// Does it where it stalls nobody.
///
/// # Errors
/// It panicked, or the process ends.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    // Threads come in an order of their own.
    #[cfg(feature = "simulated")]
    return Ok(work());
    #[cfg(not(feature = "simulated"))]
    tokio::task::spawn_blocking(work).await
}

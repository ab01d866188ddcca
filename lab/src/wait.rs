//! Waiting for a condition, never for a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Asks until the answer is `Ok`, at most for `limit`; then fails with the last state.
///
/// # Panics
/// If the limit passes: `what` and the last state are in the message.
pub fn until<T, S: Debug>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T, S>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(value) => return (value, start.elapsed()),
            Err(state) if start.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last state: {state:#?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

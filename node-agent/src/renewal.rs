//! Keeps the certificate fresh: somewhere in the second half of its life, so that nodes that joined
//! together do not renew together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::identity::{IdentityDir, NodeIdentity};
use crate::join::renew;
use crate::reconcile::Chain;

/// Part of the life after which it is renewed; SwarmKit's (ca/renewer.go).
const RENEW_AFTER: std::ops::Range<f64> = 0.50..0.80;
/// Longest nap: a machine's clock may be set meanwhile.
const NAP_MAX: Duration = Duration::from_secs(3600);
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_CAP: Duration = Duration::from_secs(600);

/// Renews until `stop`; `renewed` is told after each success.
pub async fn run(
    dir: IdentityDir,
    identity: NodeIdentity,
    renewed: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_CAP);
    let mut share = rand::random_range(RENEW_AFTER);
    loop {
        let wait = due_in(identity.validity(), share, SystemTime::now());
        let wait = if wait > Duration::ZERO {
            wait.min(NAP_MAX)
        } else {
            match renew(&dir, &identity).await {
                Ok(()) => {
                    tracing::info!("certificate renewed");
                    share = rand::random_range(RENEW_AFTER);
                    backoff.reset();
                    renewed.notify_one();
                    after_success(due_in(identity.validity(), share, SystemTime::now()))
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "certificate not renewed yet");
                    backoff.next_wait().max(Duration::from_secs(1))
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

/// A new certificate that is due at once is one of a clock that is wrong, here or at the controller: it
/// must not be asked for in a loop.
fn after_success(next_due: Duration) -> Duration {
    if next_due > Duration::ZERO {
        return Duration::from_secs(1);
    }
    tracing::warn!(
        "the new certificate is as good as over by this machine's clock: set the clocks of this host \
         and of the controller's"
    );
    NAP_MAX
}

fn due_in(validity: Option<(SystemTime, SystemTime)>, share: f64, now: SystemTime) -> Duration {
    // Unreadable: it was read at the start, so this cannot be; renewing is the way out anyway.
    let Some((from, until)) = validity else {
        return Duration::ZERO;
    };
    let life = until.duration_since(from).unwrap_or_default();
    (from + life.mul_f64(share))
        .duration_since(now)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_the_given_share_of_its_life() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let until = from + Duration::from_secs(900);
        let due = |after_s| {
            due_in(
                Some((from, until)),
                2.0 / 3.0,
                from + Duration::from_secs(after_s),
            )
        };
        assert_eq!(due(0).as_secs(), 600);
        assert_eq!(due(500).as_secs(), 100);
        assert_eq!(due(601), Duration::ZERO);
        assert_eq!(due(5_000), Duration::ZERO, "expired: still worth a try");
    }

    #[test]
    fn a_clock_that_is_wrong_asks_once_in_an_hour() {
        assert_eq!(after_success(Duration::from_secs(9)).as_secs(), 1);
        assert_eq!(after_success(Duration::ZERO).as_secs(), 3_600);
    }
}

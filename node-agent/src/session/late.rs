//! A certificate whose time is over: it is renewed before a session is tried with it.

use std::time::SystemTime;

use super::SessionError;
use crate::identity::{IdentityDir, NodeIdentity};
use crate::join::{JoinError, renew};
use crate::reconcile::Chain;

/// Why a certificate is to be renewed before the next session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing says so yet; the own clock may.
    Unknown,
    /// The controller says so.
    Told,
    /// The own clock said so of a certificate that was new: it is wrong, and is not asked again.
    ClockIsWrong,
}

impl Late {
    /// Renews what is over.
    ///
    /// # Errors
    /// [`SessionError`]: the certificate is not taken any more, or no controller can be reached, or it
    /// said itself that this must be done.
    pub(super) async fn renew_first(
        &mut self,
        identity: &NodeIdentity,
        dir: &IdentityDir,
    ) -> Result<(), SessionError> {
        let told = *self == Self::Told;
        let is_late = || identity.is_late(SystemTime::now());
        if !told && (*self == Self::ClockIsWrong || !is_late()) {
            return Ok(());
        }
        tracing::info!("this node's certificate is over: it is renewed before anything else");
        match renew(dir, identity).await {
            Ok(()) if is_late() => {
                tracing::warn!(
                    "the new certificate is over by this machine's clock: set the clock"
                );
                *self = Self::ClockIsWrong;
            }
            Ok(()) => *self = Self::Unknown,
            Err(JoinError::Connect(error)) => {
                return Err(SessionError::dialled(error, &identity.file));
            }
            Err(error) if told => return Err(SessionError::NotRenewed(error)),
            // It may be over by this clock only: the controller's answer to a session tells.
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the certificate is not renewed yet");
            }
        }
        Ok(())
    }
}

//! What an event is about.

use super::EventKind;
use crate::id::{NodeId, ReplicaId, ServiceKey};

impl EventKind {
    /// The service that it is about, if any.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceKey> {
        match self {
            Self::Scaled { service, .. }
            | Self::Placed { service, .. }
            | Self::Serving { service, .. }
            | Self::Unhealthy { service, .. }
            | Self::Leaving { service, .. }
            | Self::Drained { service, .. }
            | Self::Gone { service, .. }
            | Self::Failed { service, .. }
            | Self::Moving { service, .. }
            | Self::Woken { service, .. }
            | Self::JobCompleted { service, .. }
            | Self::JobFailed { service, .. }
            | Self::SetAside { service, .. }
            | Self::LetBack { service, .. }
            | Self::Waits { service, .. }
            | Self::RoutedAgain { service, .. }
            | Self::AutoscalePaused { service, .. }
            | Self::AutoscaleResumed { service, .. }
            | Self::AutoscaleBounds { service, .. }
            | Self::AutoscaleApproved { service, .. }
            | Self::Rollout { service, .. } => Some(service),
            _ => None,
        }
    }

    /// The replica that it is about, if any.
    #[must_use]
    pub fn replica(&self) -> Option<ReplicaId> {
        match self {
            Self::Placed { replica, .. }
            | Self::Serving { replica, .. }
            | Self::Unhealthy { replica, .. }
            | Self::Leaving { replica, .. }
            | Self::Drained { replica, .. }
            | Self::Gone { replica, .. }
            | Self::Failed { replica, .. }
            | Self::Moving { replica, .. }
            | Self::JobCompleted { replica, .. }
            | Self::SetAside { replica, .. }
            | Self::LetBack { replica, .. }
            | Self::Woken { replica, .. } => Some(*replica),
            _ => None,
        }
    }

    /// The slot of that replica, where it is said.
    #[must_use]
    pub fn slot(&self) -> Option<u32> {
        match self {
            Self::Placed { slot, .. }
            | Self::Serving { slot, .. }
            | Self::Leaving { slot, .. }
            | Self::Gone { slot, .. }
            | Self::JobCompleted { slot, .. }
            | Self::SetAside { slot, .. }
            | Self::LetBack { slot, .. }
            | Self::Woken { slot, .. } => Some(*slot),
            _ => None,
        }
    }

    /// The node that it is about, if any.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Placed { node, .. }
            | Self::Serving { node, .. }
            | Self::Unhealthy { node, .. }
            | Self::Leaving { node, .. }
            | Self::Drained { node, .. }
            | Self::Gone { node, .. }
            | Self::Failed { node, .. }
            | Self::NodeJoined { node }
            | Self::NodeConnected { node }
            | Self::NodeAway { node }
            | Self::NodeLost { node, .. }
            | Self::NodeBack { node }
            | Self::NodeFlaps { node, .. }
            | Self::EdgeSilent { node, .. }
            | Self::EdgeAnswers { node }
            | Self::PortsShared { node, .. }
            | Self::PortsOwn { node, .. }
            | Self::CertificateRefused { node, .. }
            | Self::CertificateServed { node, .. }
            | Self::EdgeRepaired { node, .. }
            | Self::NodeDrained { node, .. }
            | Self::NodeDrainLate { node, .. }
            | Self::Moving { node, .. }
            | Self::Woken { node, .. }
            | Self::JobCompleted { node, .. }
            | Self::SetAside { node, .. }
            | Self::LetBack { node, .. }
            | Self::NodeAvailability { node, .. } => Some(node),
            _ => None,
        }
    }
}

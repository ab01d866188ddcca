//! Who may call what: a rule for each call. A call without one does not compile.

#[cfg(test)]
mod tests;

use longshore_identity::OperatorRole::{self, Admin, Deployer, Viewer};
use longshore_proto::Method;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Anybody, without a certificate: joining only.
    Anyone,
    /// Anybody of the cluster.
    Member,
    /// Nodes, for themselves, though their certificate be over: it is what they come to change.
    Renewal,
    /// Nodes, for themselves. What edges are told comes in their sessions: no call is for edges alone.
    Node,
    /// Nodes that run containers, for themselves; by what the cluster wants of them now.
    Worker,
    /// Operators of at least this role.
    Operator(OperatorRole),
}

/// The rule of each call. No `_` here: whoever adds a call says who may make it.
pub(super) const fn rule(method: Method) -> Rule {
    use Method as M;
    match method {
        M::EnrollmentJoin | M::EnrollmentJoinOperator | M::EnrollmentWhoLeads => Rule::Anyone,
        M::EnrollmentRenew => Rule::Renewal,
        M::AgentSession => Rule::Node,
        M::ImageSourceGetManifest
        | M::ImageSourceGetBlob
        | M::ImageSourceListTags
        | M::ImageSourceListAhead
        | M::ImageSourceGetCredentials => Rule::Worker,
        M::ControlGetStatus
        | M::ControlListNodes
        | M::ControlListServices
        | M::ControlListReplicas
        | M::ControlWatch
        | M::ControlEvents
        | M::ControlWhy
        | M::ControlListDecisions
        | M::ControlListAutoscale
        | M::ControlListMetrics
        | M::ControlSimulateAutoscale
        | M::ControlLogs
        | M::ControlPlanApp
        | M::ControlPlanServices
        | M::ControlListSecrets
        | M::ControlListRollouts
        | M::ControlRolloutHistory
        | M::ControlProxyConfig
        | M::ControlNodeLogs
        | M::ControlDiskUse
        | M::ControlListBackups
        | M::ImageListImages
        | M::ImageResolveImages
        | M::SecretListRegistries
        | M::OperatorListOperators => Rule::Operator(Viewer),
        M::ControlApplyApp
        | M::ControlDownApp
        | M::ControlScale
        | M::ControlSetAutoscale
        | M::ControlSetReplicaTraffic
        | M::ControlUndoRollout
        | M::ControlPauseRollout
        | M::ControlResumeRollout
        | M::ControlRestartServices
        | M::ControlExec
        | M::ImageMissingBlobs
        | M::ImageUploadBlob
        | M::ImageRecordImage
        | M::ImageRemoveImage
        | M::ImagePruneImages
        | M::ImageFetchImage
        | M::SecretPutSecret
        | M::SecretRemoveSecret
        | M::SecretPutRegistry
        | M::SecretRemoveRegistry => Rule::Operator(Deployer),
        M::ControlSetNodeAvailability
        | M::ControlSetNodeLabels
        | M::ControlRemoveNode
        | M::ControlCreateToken
        | M::ControlListTokens
        | M::ControlRevokeToken
        | M::ControlRemoveVolume
        | M::ControlBackup
        | M::OperatorAddOperator
        | M::OperatorSetOperatorRole
        | M::OperatorRotateOperator
        | M::OperatorRemoveOperator => Rule::Operator(Admin),
    }
}

/// The rule of what comes with this path. None: nobody may call that.
pub(super) fn rule_of(path: &str) -> Option<Rule> {
    if let Some(method) = Method::from_path(path) {
        return Some(rule(method));
    }
    // Services of tonic's.
    let (service, _) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "grpc.health.v1.Health" => Some(Rule::Member),
        "grpc.reflection.v1.ServerReflection" => Some(Rule::Operator(Viewer)),
        _ => None,
    }
}

//! What happened, with its reason: the stuff of `events`, `why` and the audit trail.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use strum::VariantNames;

use crate::RegistryHost;
use crate::TimeMs;
use crate::id::{AppName, NodeId, ReplicaId, SecretName, ServiceKey};
use crate::reason::{FailReason, LeaveReason, Reason, ScaleCause};
use crate::receipt::{DrainReceipt, Exit};
use crate::repair::Repair;
use crate::rollout::RolloutNews;

mod about;
mod words;

pub use words::{day, ports_in_words};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at_ms: TimeMs,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What somebody did with a secret that stands apart from apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretAct {
    /// There was none.
    Created,
    /// It has other contents.
    Replaced,
    /// It is gone.
    Removed,
}

impl SecretAct {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
        }
    }
}

/// What happened to an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorAct {
    /// They may come.
    Added,
    /// They traded an invite for a certificate.
    Joined,
    /// They have another role.
    Role,
    /// What they show is replaced.
    Rotated,
    /// They are out.
    Removed,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum CallOutcome {
    /// It was done, or began.
    Done,
    /// It was refused, or failed.
    Refused {
        /// What was answered.
        why: String,
    },
    /// The caller went before the answer came; whether it was done, other events say.
    Left,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, VariantNames)]
#[serde(tag = "type", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// An app was applied.
    AppApplied {
        /// App.
        app: AppName,
        /// Its new revision.
        revision: u64,
        /// By whom.
        by: String,
    },
    /// An app was taken down.
    AppDown {
        /// App.
        app: AppName,
        /// By whom.
        by: String,
    },
    /// A secret that stands apart from apps came, changed or went.
    SecretKept {
        /// Its name.
        name: String,
        /// Which of these.
        act: SecretAct,
        /// By whom.
        by: String,
    },
    /// An operator was let in, changed or removed.
    OperatorKept {
        /// Their name.
        name: String,
        /// What they may do: viewer, deployer, admin.
        role: String,
        /// Which of these.
        act: OperatorAct,
        /// By whom.
        by: String,
    },
    /// An operator asked for a change, or for something that is not for them.
    OperatorCalled {
        /// Who.
        by: String,
        /// What they may do: viewer, deployer, admin.
        role: String,
        /// With a token, not a certificate.
        by_token: bool,
        /// From which address.
        from: IpAddr,
        /// What, as `Control.Scale`.
        call: String,
        /// Of what; empty: of nothing in particular, or it was not looked at.
        target: String,
        /// What became of it.
        outcome: CallOutcome,
    },
    /// Credentials for a registry came, in place of those before.
    RegistryLogin {
        /// The registry.
        server: RegistryHost,
        /// As whom images are pulled.
        user: String,
        /// By whom.
        by: String,
    },
    /// Credentials for a registry went.
    RegistryLogout {
        /// The registry.
        server: RegistryHost,
        /// By whom.
        by: String,
    },
    /// A certificate came that takes the place of one before: edges are sent it.
    CertificateBrought {
        /// App.
        app: AppName,
        /// Its secret.
        secret: SecretName,
        /// Host names that it is for; of many the first ones.
        names: Vec<String>,
        /// Services that end TLS with it.
        services: BTreeSet<ServiceKey>,
        /// Last moment that it can be used in.
        until_ms: TimeMs,
        /// By whom.
        by: String,
    },
    /// All edges serve a certificate that took the place of one before.
    CertificateRenewed {
        /// App.
        app: AppName,
        /// Its secret.
        secret: SecretName,
        /// Host names that it is for; of many the first ones.
        names: Vec<String>,
        /// Services that end TLS with it.
        services: BTreeSet<ServiceKey>,
        /// Last moment that it can be used in.
        until_ms: TimeMs,
        /// By whom; empty: not known any more.
        by: String,
        /// Edges that serve it.
        #[serde(default)]
        edges: BTreeSet<NodeId>,
        /// Edges that are away or do not say; they get it when they are back.
        #[serde(default)]
        without: BTreeSet<NodeId>,
    },
    /// An edge's HAProxy does not take a new certificate.
    CertificateRefused {
        /// App.
        app: AppName,
        /// Its secret.
        secret: SecretName,
        /// Services that end TLS with it.
        services: BTreeSet<ServiceKey>,
        /// The edge.
        node: NodeId,
        /// Why, in HAProxy's words as far as it says.
        why: String,
        /// Does it serve the one before?
        served: bool,
    },
    /// An edge that was not waited for, or that refused it, serves a new certificate by now.
    CertificateServed {
        /// App.
        app: AppName,
        /// Its secret.
        secret: SecretName,
        /// Host names that it is for; of many the first ones.
        names: Vec<String>,
        /// Services that end TLS with it.
        services: BTreeSet<ServiceKey>,
        /// Last moment that it can be used in.
        until_ms: TimeMs,
        /// The edge.
        node: NodeId,
    },
    /// A count changed.
    Scaled {
        /// Service.
        service: ServiceKey,
        /// Before.
        from: u32,
        /// After.
        to: u32,
        /// Why.
        cause: ScaleCause,
    },
    /// A replica got a place.
    Placed {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
    },
    /// A replica is in the routes: edges are told to send it requests.
    Serving {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// From its planning to here.
        after_ms: u64,
        /// It was there before: what it proves is not its first proof.
        #[serde(default)]
        again: bool,
        /// When its node started it.
        #[serde(default)]
        started_ms: Option<TimeMs>,
        /// When its node first found it healthy.
        #[serde(default)]
        healthy_ms: Option<TimeMs>,
    },
    /// A replica left the routes because it is not healthy.
    Unhealthy {
        /// Service.
        service: ServiceKey,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why, if its agent said.
        why: Option<FailReason>,
    },
    /// A replica begins to leave.
    Leaving {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why.
        why: LeaveReason,
    },
    /// A replica is drained and out of every route.
    Drained {
        /// Service.
        service: ServiceKey,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// From the drain to here.
        after_ms: u64,
        /// What each edge said.
        receipts: Vec<(NodeId, DrainReceipt)>,
    },
    /// A replica is gone.
    Gone {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why it left.
        why: LeaveReason,
        /// From the order to stop to here; none: nobody was told to stop it.
        #[serde(default)]
        after_ms: Option<u64>,
        /// How its container ended; none: its node did not say.
        #[serde(default)]
        exit: Option<Exit>,
        /// Its node was lost: nobody saw it end.
        #[serde(default)]
        lost: bool,
    },
    /// A replica failed.
    Failed {
        /// Service.
        service: ServiceKey,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Why.
        why: FailReason,
    },
    /// A rollout went a step further, or stopped.
    Rollout {
        /// Service.
        service: ServiceKey,
        /// App revision that it goes to.
        revision: u64,
        /// What is new.
        #[serde(flatten)]
        news: RolloutNews,
    },
    /// Something waits; said once for each change of its reason.
    Waits {
        /// Service.
        service: ServiceKey,
        /// Why.
        why: Reason,
    },
    /// No edge refuses it any more.
    RoutedAgain {
        /// Service.
        service: ServiceKey,
        /// Ports of the edges that it is reached by.
        #[serde(default)]
        ports: Vec<u16>,
    },
    /// A node joined.
    NodeJoined {
        /// Node.
        node: NodeId,
    },
    /// A node's session began.
    NodeConnected {
        /// Node.
        node: NodeId,
    },
    /// A node's session ended.
    NodeAway {
        /// Node.
        node: NodeId,
    },
    /// A node was declared lost.
    NodeLost {
        /// Node.
        node: NodeId,
        /// The witnesses, in words.
        witnesses: String,
    },
    /// A lost node came back.
    NodeBack {
        /// Node.
        node: NodeId,
    },
    /// A node came back that comes and goes: it takes no new replicas for a while.
    NodeFlaps {
        /// Node.
        node: NodeId,
        /// How often it was lost.
        losses: u32,
        /// So long it must stay before it takes replicas.
        for_ms: u64,
    },
    /// HAProxy does not answer on an edge.
    EdgeSilent {
        /// Node.
        node: NodeId,
        /// Why, in its agent's words.
        problem: String,
    },
    /// It answers again.
    EdgeAnswers {
        /// Node.
        node: NodeId,
    },
    /// Another program listens on ports of an edge's HAProxy and gets a part of their connections.
    PortsShared {
        /// Node.
        node: NodeId,
        /// Its name and pid, as far as they are known.
        program: String,
        /// Ports.
        ports: BTreeSet<u16>,
    },
    /// It does not any more.
    PortsOwn {
        /// Node.
        node: NodeId,
        /// Its name and pid, as far as they are known.
        program: String,
        /// Ports.
        ports: BTreeSet<u16>,
    },
    /// An edge's agent mended its HAProxy.
    EdgeRepaired {
        /// Node.
        node: NodeId,
        /// What was found.
        repair: Repair,
    },
    /// An operator changed a node's availability.
    NodeAvailability {
        /// Node.
        node: NodeId,
        /// `active`, `cordoned` or `draining`.
        availability: String,
        /// By whom.
        by: String,
        /// In their words.
        message: String,
    },
    /// An operator stopped a service's autoscaler.
    AutoscalePaused {
        /// Service.
        service: ServiceKey,
        /// It goes on by itself then; none: when somebody says so.
        until_ms: Option<TimeMs>,
        /// By whom.
        by: String,
    },
    /// An operator let a service's autoscaler go on.
    AutoscaleResumed {
        /// Service.
        service: ServiceKey,
        /// By whom.
        by: String,
    },
    /// An operator set other bounds than the file's, or took them back (neither is set).
    AutoscaleBounds {
        /// Service.
        service: ServiceKey,
        /// Lower bound instead of the file's.
        min: Option<u32>,
        /// Upper bound instead of the file's.
        max: Option<u32>,
        /// By whom.
        by: String,
    },
    /// An operator approved a count that the autoscaler asked for.
    AutoscaleApproved {
        /// Service.
        service: ServiceKey,
        /// The count.
        count: u32,
        /// By whom.
        by: String,
    },
    /// An operator keeps a replica out of the routes.
    SetAside {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// By whom.
        by: String,
        /// Why, in their words.
        why: String,
    },
    /// An operator lets a replica into the routes again.
    LetBack {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// By whom.
        by: String,
    },
    /// Nothing is left on a node that was drained.
    NodeDrained {
        /// Node.
        node: NodeId,
        /// From the order to here.
        after_ms: u64,
    },
    /// A node's drain ran out of time and goes on.
    NodeDrainLate {
        /// Node.
        node: NodeId,
        /// Replicas left.
        left: u32,
        /// What is left is stopped now.
        force: bool,
    },
    /// A replica is moved to even out the cluster: its successor starts.
    Moving {
        /// Service.
        service: ServiceKey,
        /// The replica that will leave.
        replica: ReplicaId,
        /// Its node.
        node: NodeId,
        /// Its successor.
        successor: ReplicaId,
        /// The successor's node.
        to: NodeId,
    },
    /// A warm standby becomes a replica like the others.
    Woken {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
    },
    /// A job ended with 0.
    JobCompleted {
        /// Service.
        service: ServiceKey,
        /// Slot.
        slot: u32,
        /// Replica.
        replica: ReplicaId,
        /// Node.
        node: NodeId,
        /// Since that replica was placed.
        after_ms: u64,
    },
    /// A job was started as often as it may be, and failed.
    JobFailed {
        /// Service.
        service: ServiceKey,
        /// Times that it was started.
        tries: u32,
        /// Why the last try failed.
        last: FailReason,
    },
    /// The controller started.
    ControllerStarted {
        /// Its leadership term.
        term: u64,
    },
}

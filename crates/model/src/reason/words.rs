//! Reasons in words.

use std::fmt;

use super::Reason;
use super::replica::not_reached;
use crate::job::times_word;
use crate::refusal;
use crate::report::BoundSource;

impl fmt::Display for Reason {
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind: a table, not logic"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsideTolerance => f.write_str("inside tolerance"),
            Self::AsAsked => f.write_str("as many as are asked for"),
            Self::Unseasoned { carriers, replicas } => write!(
                f,
                "{carriers} of {replicas} replicas are past warm-up and window; the others are waited for"
            ),
            Self::Observing { .. } => {
                f.write_str("the controller has not yet watched for a full window")
            }
            Self::Stabilizing { recommendation, .. } => write!(
                f,
                "held: a recommendation of {recommendation} is inside the stabilization window"
            ),
            Self::MissingSamples { signal, good, all } => {
                write!(f, "holding: {good} of {all} report {signal}")
            }
            Self::AtMin => f.write_str("at min"),
            Self::AtMax => f.write_str("at max"),
            Self::RateLimited { .. } => f.write_str("limited by a rate policy"),
            Self::Held { .. } => f.write_str("held by an operator"),
            Self::DryRun { would_be } => write!(f, "dry run: would be {would_be}"),
            Self::Fixed => f.write_str("no autoscaling configured"),
            Self::EachNode(each) => each.fmt(f),
            Self::CountLimit { asked, most } => {
                write!(f, "{asked} are asked for; a service may have {most}")
            }
            Self::RolloutRuns => f.write_str("a rollout runs"),
            Self::Unplaceable {
                home: Some(home), ..
            } => home.fmt(f),
            Self::Unplaceable {
                refusals,
                counts,
                nodes,
                ..
            } => refusal::nobody_fits(f, (*nodes as usize).max(refusals.len()), counts),
            Self::Paused { by, .. } => write!(f, "paused by {by}"),
            Self::Turned { .. } => {
                f.write_str("held: the count went the other way within the stabilization window")
            }
            Self::Idle { signal } => write!(f, "{signal}: too few requests to say anything"),
            Self::Undefined { signal } => write!(
                f,
                "{signal} cannot be measured: it needs a limit or reservation, or a route"
            ),
            Self::AwaitsApproval { count, .. } => write!(f, "would be {count}: waits for approval"),
            Self::ApprovalUnused {
                approved,
                stale: true,
            } => write!(f, "the approval of {approved} is too old"),
            Self::ApprovalUnused { approved, .. } => write!(
                f,
                "the approval of {approved} is for another count than the one proposed"
            ),
            Self::BoundsFrom { bound } => {
                let (side, count) = (if bound.upper { "max" } else { "min" }, bound.count);
                match &bound.source {
                    BoundSource::File => write!(f, "the file sets {side} {count}"),
                    BoundSource::Schedule { name } => {
                        write!(f, "schedule {name:?} sets {side} {count}")
                    }
                    BoundSource::Override { by } => write!(f, "{by} set {side} {count}"),
                }
            }
            Self::Backoff {
                failures: 0 | 1,
                last,
                ..
            } => write!(f, "failed, waits before the next try: {last}"),
            Self::Backoff { failures, last, .. } => {
                write!(
                    f,
                    "failed {failures} times, waits before the next try: {last}"
                )
            }
            Self::PartialOutage { away: 0, .. } => f.write_str(
                "all nodes are back from an outage; until that lasts, nothing is evicted",
            ),
            Self::PartialOutage { away, all } => {
                write!(
                    f,
                    "partial outage: {away} of {all} nodes away at once, nothing is evicted"
                )
            }
            Self::Flapping { node, losses, .. } => write!(
                f,
                "{node} is flapping: lost {losses} times lately, it takes no new replicas until it \
                 has stayed long enough (or at once: controllerctl node uncordon {node}); what runs there goes on"
            ),
            Self::UnknownButServing { node } => {
                write!(
                    f,
                    "{node} is not connected but HAProxy still reaches its replicas"
                )
            }
            Self::KeptInRoutes {
                replicas,
                unproven: 0,
            } => write!(
                f,
                "{replicas} replicas fail their health check and stay in the routes, or less \
                 than half of the service would be left there"
            ),
            Self::KeptInRoutes { replicas, unproven } => write!(
                f,
                "{replicas} replicas stay in the routes, or less than half of the service would be \
                 left there: {unproven} have agents that began anew and prove their health again \
                 while HAProxy reaches them, {} fail their health check",
                replicas.saturating_sub(*unproven)
            ),
            Self::SetAside { slot, said } => f.write_str(&said.of_slot(*slot)),
            Self::WaitsForReplacement { replica } => {
                write!(f, "{replica} waits until its replacement serves")
            }
            Self::WaitsForEnd { replica } => {
                write!(f, "the next try starts once {replica} has ended")
            }
            Self::CertificateRefused { edge, secret, why } => write!(
                f,
                "{edge} refuses the new certificate {secret} and serves the one before: {why}; bring \
                 another one: controllerctl up -f FILE"
            ),
            Self::NotRouted { edge, detail } => write!(f, "not reachable through {edge}: {detail}"),
            Self::NotReached {
                replicas,
                slot,
                node,
                edges,
                ..
            } => not_reached(f, *replicas, (*slot, node), edges),
            Self::WaitsForEdge { edge, problem } => write!(f, "waits for {edge}: {problem}"),
            Self::WaitsForService { service, until } => until.say(service, f),
            Self::JobFailed { tries, last } => {
                write!(f, "failed, started {}; last: {last}", times_word(*tries))
            }
            Self::Foreign => f.write_str("a reason that this version does not know"),
            Self::RolloutPaused {
                revision,
                why,
                cause,
            } => {
                let why = cause.with(why);
                write!(f, "rollout of revision {revision} is paused: {why}")
            }
            Self::Unproved {
                revision,
                good_revision,
            } => write!(
                f,
                "revision {revision} is unproved, for no replica is wanted; \
                 a failure goes back to revision {good_revision}"
            ),
            Self::RolloutHeld { revision, by } => {
                write!(f, "rollout of revision {revision} is held by {by}")
            }
            Self::RolledBack {
                revision,
                to_revision,
                why,
                going,
                stuck,
            } => {
                let is = match (stuck, going) {
                    (true, _) => "was to be",
                    (false, true) => "is being",
                    (false, false) => "was",
                };
                write!(
                    f,
                    "revision {revision} {is} rolled back to {to_revision}: {why}"
                )
            }
            Self::RolloutMonitors { .. } => f.write_str("the new replicas are being monitored"),
            Self::RolloutDelays { .. } => f.write_str("pause between two batches"),
            Self::NoRoomToStartFirst { max_per_node: 0 } => f.write_str(
                "one at a time, the old one stops first: a fixed host port leaves no node room \
                 for one more",
            ),
            Self::NoRoomToStartFirst { max_per_node } => write!(
                f,
                "one at a time, the old one stops first: max_replicas_per_node {max_per_node} \
                 leaves no node room for one more"
            ),
        }
    }
}

//! The list of nodes.

use std::sync::Arc;

use longshore_model::node::AvailabilityNote;
use longshore_model::observe::{NodeObserved, mean};
use longshore_model::{NodeId, TimeMs, span};
use longshore_proto::control::v1 as pb;

use super::super::held;
use super::super::nodes::availability_word;
use super::word;
use crate::cluster::Cluster;
use crate::images;

/// CPU of a node is shown as the mean of this long.
const CPU_WINDOW_MS: u64 = 10_000;
/// A clock that is off by more is said. Reports may be on their way for a while.
const CLOCK_OFF_MS_MAX: u64 = 2_000;

/// All nodes by name.
pub(in crate::grpc::control) fn nodes(cluster: &Cluster) -> Vec<pb::Node> {
    let (view, desired) = (cluster.view(), cluster.desired());
    let observed = cluster.fleet.snapshot();
    let (now_ms, none) = (cluster.now_ms(), Arc::default());
    let scene = images::Scene {
        desired: &desired,
        plan: &view.plan,
        observed: &observed,
        now_ms,
    };
    let held = held::by_node(&view.plan, &desired);
    desired
        .nodes
        .values()
        .map(|node| {
            let seen = observed.nodes.get(&node.id).unwrap_or(&none);
            let report = view.report.nodes.get(&node.id).cloned().unwrap_or_default();
            let roles = [(node.roles.worker, "worker"), (node.roles.edge, "edge")];
            let drain = node.drain.map(|order| {
                let progress = report.drain.clone().unwrap_or_default();
                let waits = progress.waits.iter();
                pb::NodeDrain {
                    since_ms: order.since_ms,
                    deadline_ms: order.deadline_ms,
                    force: order.force,
                    left: report.replicas,
                    leaving: progress.leaving,
                    late: progress.late,
                    waits: waits.map(|(key, why)| format!("{key}: {why}")).collect(),
                }
            });
            pb::Node {
                id: node.id.to_string(),
                state: word(&report.state),
                availability: availability_word(node.availability).into(),
                roles: roles
                    .iter()
                    .filter(|(is, _)| *is)
                    .map(|(_, role)| (*role).into())
                    .collect(),
                address: node.address.to_string(),
                labels: node.labels.clone().into_iter().collect(),
                replicas: report.replicas,
                cpu_ratio: cpu_ratio(cluster, seen, now_ms),
                cpu_milli: seen.capacity.cpu_milli,
                cpu_reserved_milli: report.cpu_reserved_milli,
                memory_bytes: seen.capacity.memory_bytes,
                memory_used_bytes: seen.samples.memory_used_bytes,
                memory_reserved_bytes: report.memory_reserved_bytes,
                agent_version: seen.agent_version.clone(),
                engine_version: seen.engine_version.clone(),
                last_seen_ms: seen.reported_ms.max(seen.session.last_echo_ms),
                note: node.note.as_ref().map(note).unwrap_or_default(),
                reason: report
                    .reason
                    .map(|reason| reason.to_string())
                    .unwrap_or_default(),
                drain,
                engine_labels: seen.capacity.engine_labels.clone().into_iter().collect(),
                problems: seen.problems.to_vec(),
                advice: advice(seen),
                images_ahead: images_ahead(cluster, &node.id, scene),
                held: held
                    .get(&node.id)
                    .map_or_else(Vec::new, |held| held.lines.clone()),
                held_replicas: held.get(&node.id).map_or(0, |held| held.replicas),
                volumes: held::volumes(&view.plan, scene.desired, scene.observed, &node.id),
            }
        })
        .collect()
}

/// Who said how available a node is, and what about it.
fn note(note: &AvailabilityNote) -> String {
    match note.message.as_str() {
        "" => format!("by {}", note.by),
        message => format!("by {}: {message}", note.by),
    }
}

/// What a node is to have before it is needed there, and how far it is.
fn images_ahead(cluster: &Cluster, node: &NodeId, scene: images::Scene<'_>) -> Vec<pb::NodeImage> {
    let progress = cluster.ahead.progress(node, scene).into_iter();
    progress
        .map(|(ahead, state, detail)| pb::NodeImage {
            digest: ahead.image.digest.map(String::from).unwrap_or_default(),
            image: ahead.image.name,
            state: state.to_string(),
            detail,
            why: ahead.why.kind().into(),
            by: ahead.why.by(),
            replicas: ahead.why.replicas(),
        })
        .collect()
}

/// What works on a node and will hurt: in its agent's words, and by its clock.
pub(super) fn advice(seen: &NodeObserved) -> Vec<String> {
    let ahead_ms = seen.samples.clock_ahead_ms.unwrap_or(0);
    let off_ms = ahead_ms.unsigned_abs();
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let clock = (off_ms > CLOCK_OFF_MS_MAX).then(|| {
        format!(
            "its clock is {} {side} the controller's, and certificates and logs go by it: on the \
             node, timedatectl set-ntp true",
            span(off_ms)
        )
    });
    seen.advice.iter().cloned().chain(clock).collect()
}

/// Mean over the last seconds; the last sample where they are too old.
fn cpu_ratio(cluster: &Cluster, seen: &NodeObserved, now_ms: TimeMs) -> Option<f64> {
    let samples = &seen.samples.cpu_ratio;
    let (from_ms, stale_ms) = (
        now_ms.saturating_sub(CPU_WINDOW_MS),
        cluster.config.planner.sample_stale_ms,
    );
    mean(samples, from_ms, now_ms, stale_ms).or_else(|| samples.last().map(|s| s.value))
}

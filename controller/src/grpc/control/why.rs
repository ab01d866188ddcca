//! `why`: a decision explained from the last report and the recent events.

use std::fmt::Write as _;

use longshore_model::plan::{Replica, Traffic};
use longshore_model::report::{NodeState, ServiceReport, SignalReport};
use longshore_model::{NodeId, Reason, ReplicaId, ServiceKey, TimeMs};
use longshore_proto::control::v1 as pb;
use longshore_wire::{event_to_pb, to_struct};

use super::events::{is_about, past};
use super::find::{self, Target};
use super::lists::word;
use super::nodes::availability_word;
use super::placing;
use crate::cluster::{Cluster, View};
use crate::grpc::Refusal;

/// Events shown.
const RECENT_MAX: usize = 10;

/// Serves `Why`.
pub(super) fn why(cluster: &Cluster, target: &str) -> Result<pb::WhyResponse, Refusal> {
    let (view, desired) = (cluster.view(), cluster.desired());
    let found = find::target(&desired, &view.plan, target).map_err(Refusal)?;
    let mut response = pb::WhyResponse {
        decided_ms: view.decided_ms,
        ..Default::default()
    };
    let about = match &found {
        Target::Service(key) => {
            let report = view.report.services.get(key).cloned().unwrap_or_default();
            response.lines = service_lines(cluster, &view, key, &report);
            response.report = Some(to_struct(&*report));
            key.to_string()
        }
        Target::Node(node) => {
            let report = view.report.nodes.get(node).cloned().unwrap_or_default();
            response.lines = node_lines(cluster, &view, node);
            response.report = Some(to_struct(&report));
            node.to_string()
        }
        Target::Replica(id) => {
            let Some(replica) = view.plan.replica(*id) else {
                return Ok(response);
            };
            response.lines = replica_lines(cluster, replica);
            response.report = Some(to_struct(replica));
            replica.service.to_string()
        }
    };
    response.target = match &found {
        Target::Replica(id) => id.to_string(),
        _ => about.clone(),
    };
    let events = past(cluster, 0, "", 0)?;
    let mut recent: Vec<_> = events
        .iter()
        .filter(|stored| match &found {
            Target::Replica(id) => mentions(&stored.event.kind, *id),
            _ => is_about(&stored.event.kind, &about),
        })
        .collect();
    recent.drain(..recent.len().saturating_sub(RECENT_MAX));
    response.recent = recent
        .iter()
        .map(|s| event_to_pb(&s.event, s.sequence))
        .collect();
    Ok(response)
}

fn mentions(kind: &longshore_model::EventKind, id: ReplicaId) -> bool {
    use longshore_model::EventKind as K;
    matches!(kind,
        K::Placed { replica, .. } | K::Serving { replica, .. } | K::Unhealthy { replica, .. }
        | K::Leaving { replica, .. } | K::Drained { replica, .. } | K::Gone { replica, .. }
        | K::Failed { replica, .. } if *replica == id)
}

fn ago(now_ms: TimeMs, then_ms: TimeMs) -> String {
    format!("{} s ago", now_ms.saturating_sub(then_ms) / 1_000)
}

/// A reason with its time, where it has one.
fn explain(reason: &Reason, now_ms: TimeMs) -> String {
    let until = match reason {
        Reason::Observing { until_ms }
        | Reason::Stabilizing { until_ms, .. }
        | Reason::RateLimited { until_ms }
        | Reason::Backoff { until_ms, .. }
        | Reason::Held {
            until_ms: Some(until_ms),
        } => Some(*until_ms),
        _ => None,
    };
    match until {
        Some(until) if until > now_ms => {
            format!(
                "{reason} (for another {} s)",
                (until - now_ms).div_ceil(1_000)
            )
        }
        _ => reason.to_string(),
    }
}

fn service_lines(
    cluster: &Cluster,
    view: &View,
    key: &ServiceKey,
    report: &ServiceReport,
) -> Vec<String> {
    let now_ms = cluster.now_ms();
    let decided = match view.decided_ms {
        0 => "not decided yet".into(),
        at_ms => format!("decided {}", ago(now_ms, at_ms)),
    };
    let mut lines = vec![format!(
        "{key} runs {}, wants {} ({decided})",
        report.healthy, report.wanted
    )];
    lines.push(format!(
        "  {} planned, {} healthy, {} serving, {} leaving, {} outdated",
        report.planned, report.healthy, report.serving, report.leaving, report.outdated
    ));
    lines.extend(report.scale.signals.iter().map(signal_line));
    if let Some(count) = report.scale.recommendation {
        lines.push(format!("  recommendation {count} = highest of the metrics"));
    }
    let scale = report.scale.reasons.iter();
    lines.extend(scale.map(|reason| format!("  count: {}", explain(reason, now_ms))));
    for reason in &report.waits {
        lines.push(format!("  waits: {}", explain(reason, now_ms)));
        lines.extend(placing::refusal_lines(reason));
    }
    lines.extend(placing::service_lines(report));
    let plan = view.plan.services.get(key);
    if let Some(failures) = plan.and_then(|service| service.failures.as_ref()) {
        lines.push(format!(
            "  failed {} times in a row: {}",
            failures.count, failures.last
        ));
    }
    if let Some(change) = plan.and_then(|service| service.last_change.as_ref()) {
        let when = ago(now_ms, change.at_ms);
        lines.push(format!(
            "last change: {when}  {} -> {}  {}",
            change.from, change.to, change.cause
        ));
    }
    lines
}

fn signal_line(signal: &SignalReport) -> String {
    let value = match signal.value {
        Some(value) => format!("{:.0} %", value * 100.0),
        None => "no good samples".into(),
    };
    let mut line = format!(
        "  {:<10} {value} of target {:.0} %",
        signal.signal,
        signal.target * 100.0
    );
    if let Some(count) = signal.recommendation {
        let _infallible = write!(line, " -> {count}");
    }
    let _infallible = write!(line, "  ({} of {} sources)", signal.good, signal.all);
    line
}

fn replica_lines(cluster: &Cluster, replica: &Replica) -> Vec<String> {
    let now_ms = cluster.now_ms();
    let observed = cluster.fleet.snapshot();
    let node = observed.nodes.get(&replica.node);
    let connected = node.is_some_and(|node| node.session.connected);
    let seen = node.and_then(|node| node.replicas.get(&replica.id));
    let mut lines = vec![format!(
        "{} ({}) of {} is on {}, planned {}",
        replica.name(),
        replica.id,
        replica.service,
        replica.node,
        ago(now_ms, replica.created_ms)
    )];
    lines.push(match seen {
        Some(status) => format!(
            "  its node says: {}, {} restarts",
            word(&status.state),
            status.restarts
        ),
        None => "  its node has not reported it yet".into(),
    });
    if !connected {
        lines.push(format!(
            "  {} is not connected: that may be old",
            replica.node
        ));
    }
    if let Some(reason) = seen.and_then(|status| status.reason.as_ref()) {
        lines.push(format!("  {reason}"));
    }
    lines.push(match replica.traffic {
        Traffic::Out => "  in no route".into(),
        Traffic::Serve => "  in the routes".into(),
        Traffic::Drain => "  finishing its sessions, takes nothing new".into(),
    });
    for (edge, at) in &observed.edges {
        if let Some(server) = at.server(&replica.service, replica.id) {
            lines.push(format!(
                "  edge {edge}: check {}, {} sessions, {} queued",
                word(&server.check),
                server.sessions,
                server.queued
            ));
        }
    }
    if let Some(leaving) = &replica.leaving {
        let when = ago(now_ms, leaving.since_ms);
        lines.push(format!("  leaves since {when}: {}", leaving.reason));
        if replica.stop {
            lines.push("  drained and parked; its node was told to stop it".into());
        }
    }
    lines
}

fn node_lines(cluster: &Cluster, view: &View, id: &NodeId) -> Vec<String> {
    let now_ms = cluster.now_ms();
    let (desired, observed) = (cluster.desired(), cluster.fleet.snapshot());
    let report = view.report.nodes.get(id).cloned().unwrap_or_default();
    let mut lines = vec![format!("{id} is {}", word(&report.state))];
    match observed.nodes.get(id) {
        Some(seen) if seen.session.connected => {
            lines.push(format!(
                "  last round trip {}",
                ago(now_ms, seen.session.last_echo_ms)
            ));
        }
        Some(seen) => lines.push(format!(
            "  last heard of {}",
            ago(now_ms, seen.session.last_echo_ms)
        )),
        None => lines.push("  not heard of since the controller started".into()),
    }
    if let Some(reason) = &report.reason {
        lines.push(format!("  {}", explain(reason, now_ms)));
    }
    if let Some(node) = desired.nodes.get(id) {
        let mut line = format!("  availability {}", availability_word(node.availability));
        if let Some(note) = &node.note {
            let _infallible = write!(line, " since {} by {}", ago(now_ms, note.at_ms), note.by);
            if !note.message.is_empty() {
                let _infallible = write!(line, ": {}", note.message);
            }
        }
        lines.push(line);
        lines.extend(placing::drain_lines(node, &report, now_ms));
    }
    if report.state == NodeState::Ready {
        lines.push(format!(
            "  {} replicas planned; reserved {}m cpu, {} MiB",
            report.replicas,
            report.cpu_reserved_milli,
            report.memory_reserved_bytes >> 20
        ));
    }
    lines
}

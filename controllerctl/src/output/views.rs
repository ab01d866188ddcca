//! What `-o json` promises: field names as in the API, times as RFC 3339, nothing relative.
//!
//! These structs are the contract. They are filled from the API's messages and from nothing
//! else; a field may be added, none may change its meaning.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use longshore_proto::control::v1 as pb;
use longshore_wire::struct_to_json;
use serde::Serialize;
use serde_json::Value;

use super::aside::Aside;
use super::explained::Decision;

mod nodes;

pub use nodes::{Drain, Node};

/// RFC 3339 in UTC; none for 0, which means never.
#[must_use]
pub fn time(ms: u64) -> Option<String> {
    // The formatter knows years up to 9999; a clock beyond is no clock.
    const MS_MAX: u64 = 253_402_300_799_000;
    (ms > 0 && ms <= MS_MAX).then(|| {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
    })
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// `status`
#[derive(Debug, Serialize)]
pub struct Status {
    /// Context that was asked.
    pub context: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Version of the controller.
    pub controller_version: String,
    /// Leadership term.
    pub term: u64,
    /// Version of the plan.
    pub plan_version: u64,
    /// The controller's clock.
    pub time: Option<String>,
    /// When it started.
    pub started: Option<String>,
    /// Nodes that are ready.
    pub nodes_ready: u32,
    /// Nodes in all.
    pub nodes_total: u32,
    /// Services in all.
    pub services_total: u32,
    /// Replicas wanted.
    pub replicas_wanted: u32,
    /// Replicas that take traffic.
    pub replicas_serving: u32,
    /// Until then nothing is scaled in, moved or declared lost.
    pub observing_until: Option<String>,
    /// Most urgent first.
    pub problems: Vec<Problem>,
    /// Edges.
    pub edges: Vec<Edge>,
}

/// Something that needs a person.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// Service or node; none: the cluster.
    pub about: Option<String>,
    /// In words.
    pub message: String,
    /// As data.
    pub reason: Value,
}

/// One edge.
#[derive(Debug, Serialize)]
pub struct Edge {
    /// Node.
    pub node: String,
    /// Has a session.
    pub connected: bool,
    /// Its HAProxy runs all that it should.
    pub in_step: bool,
    /// Generation that it runs.
    pub routes_generation: u64,
    /// Generation that it should run.
    pub routes_generation_wanted: u64,
    /// Version of its HAProxy.
    pub haproxy_version: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Status {
    /// From the API.
    #[must_use]
    pub fn new(context: &str, s: &pb::GetStatusResponse) -> Self {
        Self {
            context: context.to_owned(),
            cluster: s.cluster.clone(),
            controller_version: s.controller_version.clone(),
            term: s.term,
            plan_version: s.plan_version,
            time: time(s.time_ms),
            started: time(s.started_ms),
            nodes_ready: s.nodes_ready,
            nodes_total: s.nodes_total,
            services_total: s.services_total,
            replicas_wanted: s.replicas_wanted,
            replicas_serving: s.replicas_serving,
            observing_until: time(s.observing_until_ms),
            problems: s
                .problems
                .iter()
                .map(|p| Problem {
                    about: filled(&p.about),
                    message: p.message.clone(),
                    reason: p.reason.as_ref().map_or(Value::Null, struct_to_json),
                })
                .collect(),
            edges: s
                .edges
                .iter()
                .map(|e| Edge {
                    node: e.node.clone(),
                    connected: e.connected,
                    in_step: e.connected && e.routes_generation == e.routes_generation_wanted,
                    routes_generation: e.routes_generation,
                    routes_generation_wanted: e.routes_generation_wanted,
                    haproxy_version: filled(&e.haproxy_version),
                    problem: filled(&e.problem),
                })
                .collect(),
        }
    }
}

/// `ls`
#[derive(Debug, Serialize)]
pub struct Service {
    /// app/service
    pub key: String,
    /// App.
    pub app: String,
    /// Its name there.
    pub name: String,
    /// Image.
    pub image: String,
    /// Replicas wanted.
    pub wanted: u32,
    /// Replicas that have a place.
    pub planned: u32,
    /// Replicas that are healthy.
    pub healthy: u32,
    /// Replicas that take traffic.
    pub serving: u32,
    /// Replicas that leave.
    pub leaving: u32,
    /// Replicas of an older revision.
    pub outdated: u32,
    /// Replicas on nodes that do not fit the service any more.
    pub misplaced: u32,
    /// Revision of the app.
    pub revision: u64,
    /// When that was applied.
    pub updated: Option<String>,
    /// fixed, on, `dry_run`
    pub autoscale: String,
    /// Lower bound.
    pub min: u32,
    /// Upper bound.
    pub max: u32,
    /// Signals and their targets.
    pub signals: Vec<Signal>,
    /// Why it is not as wanted.
    pub waits: Vec<String>,
    /// Why the count is what it is.
    pub scale_reasons: Vec<String>,
    /// Where users reach it.
    pub urls: Vec<String>,
    /// How its last rollout goes or went.
    pub rollout: Option<super::rollouts::Rollout>,
    /// How it stands, if it runs once until it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<super::jobs::Job>,
}

/// A signal and its target.
#[derive(Debug, Serialize)]
pub struct Signal {
    /// `node_cpu`, `cpu`
    pub signal: String,
    /// Over the window; none: no samples.
    pub value: Option<f64>,
    /// Target.
    pub target: f64,
    /// Count that it asks for.
    pub recommendation: Option<u32>,
    /// What the value is compared with, in words.
    pub against: Option<String>,
}

impl From<&pb::SignalValue> for Signal {
    fn from(s: &pb::SignalValue) -> Self {
        Self {
            signal: s.signal.clone(),
            value: s.value.filter(|v| v.is_finite()),
            target: s.target,
            recommendation: s.recommendation,
            against: filled(&s.against),
        }
    }
}

impl From<&pb::Service> for Service {
    fn from(s: &pb::Service) -> Self {
        Self {
            key: s.key.clone(),
            app: s.app.clone(),
            name: s.name.clone(),
            image: s.image.clone(),
            wanted: s.wanted,
            planned: s.planned,
            healthy: s.healthy,
            serving: s.serving,
            leaving: s.leaving,
            outdated: s.outdated,
            misplaced: s.misplaced,
            revision: s.revision,
            updated: time(s.updated_ms),
            autoscale: s.autoscale.clone(),
            min: s.min,
            max: s.max,
            signals: s.signals.iter().map(Signal::from).collect(),
            waits: s.waits.clone(),
            scale_reasons: s.scale_reasons.clone(),
            urls: s.urls.clone(),
            rollout: s.rollout.as_ref().map(Into::into),
            job: s.job.as_ref().map(Into::into),
        }
    }
}

/// `ps`
#[derive(Debug, Serialize)]
pub struct Replica {
    /// service.slot
    pub name: String,
    /// r17
    pub id: String,
    /// app/service
    pub service: String,
    /// Slot.
    pub slot: u32,
    /// Node.
    pub node: String,
    /// Image.
    pub image: String,
    /// Revision of the app.
    pub revision: u64,
    /// assigned … failed, unknown
    pub state: String,
    /// out, serve, drain; down: it should serve, but no edge reaches it
    pub traffic: String,
    /// Each edge's own check.
    pub checks: BTreeMap<String, String>,
    /// Sessions on all edges.
    pub sessions: u32,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// An operator keeps it out of the routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<Aside>,
    /// Why it leaves.
    pub leaving: Option<String>,
    /// The engine's id.
    pub container_id: Option<String>,
    /// Where edges reach it.
    pub address: Option<String>,
    /// CPU in use, thousandths of a core.
    pub cpu_milli: Option<f64>,
    /// Memory in use.
    pub memory_bytes: u64,
    /// When it was planned.
    pub created: Option<String>,
    /// When it started.
    pub started: Option<String>,
    /// Restarts so far.
    pub restarts: u32,
}

impl From<&pb::Replica> for Replica {
    fn from(r: &pb::Replica) -> Self {
        Self {
            name: r.name.clone(),
            id: format!("r{}", r.id),
            service: r.service.clone(),
            slot: r.slot,
            node: r.node.clone(),
            image: r.image.clone(),
            revision: r.revision,
            state: r.state.clone(),
            traffic: r.traffic.clone(),
            checks: r.checks.clone().into_iter().collect(),
            sessions: r.sessions,
            reason: filled(&r.reason),
            aside: r.aside.as_ref().map(Aside::from),
            leaving: filled(&r.leaving),
            container_id: filled(&r.container_id),
            address: filled(&r.address),
            cpu_milli: r.cpu_milli.filter(|c| c.is_finite()),
            memory_bytes: r.memory_bytes,
            created: time(r.created_ms),
            started: r.started_ms.and_then(time),
            restarts: r.restarts,
        }
    }
}

/// `events`
#[derive(Debug, Serialize)]
pub struct EventLine {
    /// Its number.
    pub sequence: u64,
    /// When.
    pub time: Option<String>,
    /// What.
    #[serde(rename = "type")]
    pub kind: String,
    /// In words.
    pub message: String,
    /// As data.
    pub detail: Value,
}

impl From<&pb::EventsResponse> for EventLine {
    fn from(e: &pb::EventsResponse) -> Self {
        Self {
            sequence: e.sequence,
            time: time(e.time_ms),
            kind: e.r#type.clone(),
            message: e.message.clone(),
            detail: e.detail.as_ref().map_or(Value::Null, struct_to_json),
        }
    }
}

/// `why`
#[derive(Debug, Serialize)]
pub struct Why {
    /// What was asked about.
    pub target: String,
    /// When it was decided.
    pub decided: Option<String>,
    /// In words.
    pub lines: Vec<String>,
    /// The recorded reasoning.
    pub report: Value,
    /// What happened last.
    pub recent: Vec<EventLine>,
    /// The decisions that it is made from, whole.
    pub decisions: Vec<Decision>,
}

impl From<&pb::WhyResponse> for Why {
    fn from(w: &pb::WhyResponse) -> Self {
        Self {
            target: w.target.clone(),
            decided: time(w.decided_ms),
            lines: w.lines.clone(),
            report: w.report.as_ref().map_or(Value::Null, struct_to_json),
            recent: w.recent.iter().map(EventLine::from).collect(),
            decisions: w.decisions.iter().map(Decision::from).collect(),
        }
    }
}

/// One line of `logs`.
#[derive(Debug, Serialize)]
pub struct LogLine {
    /// service.slot
    pub name: String,
    /// Node.
    pub node: String,
    /// stdout, stderr, notice
    pub stream: &'static str,
    /// When it was written; none: not known.
    pub time: Option<String>,
    /// The line, or what happened to the replica.
    pub line: String,
}

//! `longshore.agent.v1`: assignments and routes down, reports up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::TimeMs;
use longshore_model::certificate::CertificatesObserved;
use longshore_model::node::{Capacity, VOLUMES_TOLD_MAX};
use longshore_model::observe::{
    BackendObserved, CheckState, EngineState, PortsBySharer, ServerAdmin, ServerAnswers,
    ServerObserved, ServersByService,
};
use longshore_model::plan::{AssignedReplica, Assignment, PortBinding};
use longshore_model::reason::FailReason;
use longshore_model::receipt::Exit;
use longshore_model::repair::Repair;
use longshore_model::replica::{ReplicaState, ReplicaStatus};
use longshore_model::{ReplicaId, ServiceKey, TemplateId};
use longshore_proto::agent::v1 as pb;
use serde::{Deserialize, Serialize};

use crate::edge;
use crate::error::{WireError, bounded, invalid, list, named, port, required};
use crate::reason::{exit_from_pb, exit_to_pb, fail_reason_from_pb, fail_reason_to_pb};
use crate::spec::{container_spec_from_pb, container_spec_to_pb};

/// Most replicas of one node, and servers of one backend, in a message.
pub(crate) const REPLICAS_MAX: usize = 4096;
/// Most templates, and backends, in a message.
pub(crate) const TEMPLATES_MAX: usize = 1024;
/// Most ports that an image says it listens on.
const EXPOSED_MAX: usize = 32;
/// Most problems of one node, and their length in characters.
const PROBLEMS_MAX: usize = 64;
const PROBLEM_CHARS_MAX: usize = 500;
/// Most labels of an engine that are passed on.
const ENGINE_LABELS_MAX: usize = 64;
/// Longest key of an engine label, in bytes.
const ENGINE_LABEL_KEY_MAX: usize = 128;
/// Longest value of an engine label, in bytes.
const ENGINE_LABEL_VALUE_MAX: usize = 256;

/// Who commands: a restored or migrated cluster has a higher generation, each leadership a
/// higher term. Lower is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Fence {
    /// Rises on restore and migration.
    pub cluster_generation: u64,
    /// Rises with each leadership.
    pub term: u64,
}

impl From<Fence> for pb::Fence {
    fn from(fence: Fence) -> Self {
        Self {
            cluster_generation: fence.cluster_generation,
            term: fence.term,
        }
    }
}

impl From<pb::Fence> for Fence {
    fn from(fence: pb::Fence) -> Self {
        Self {
            cluster_generation: fence.cluster_generation,
            term: fence.term,
        }
    }
}

/// To the wire.
#[must_use]
pub fn assignment_to_pb(assignment: &Assignment, fence: Fence) -> pb::Assignment {
    let replica = |replica: &AssignedReplica| pb::AssignedReplica {
        replica_id: replica.id.0,
        service: replica.service.to_string(),
        slot: replica.slot,
        revision: replica.revision,
        template_id: replica.template.to_string(),
        ports: replica
            .ports
            .iter()
            .map(|binding| pb::PortBinding {
                container_port: binding.container_port.into(),
                host_port: binding.host_port.into(),
            })
            .collect(),
        stop: replica.stop,
        paused: replica.paused,
        ended: replica.ended,
    };
    pb::Assignment {
        fence: Some(fence.into()),
        generation: assignment.generation,
        replicas: assignment.replicas.iter().map(replica).collect(),
        templates: assignment
            .templates
            .iter()
            .map(|(id, spec)| (id.to_string(), container_spec_to_pb(spec)))
            .collect(),
    }
}

/// From the wire, checked: each replica has its template, each template its own hash.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn assignment_from_pb(message: pb::Assignment) -> Result<(Fence, Assignment), WireError> {
    let fence = required("fence", message.fence)?.into();
    if message.templates.len() > TEMPLATES_MAX {
        let length = message.templates.len();
        return Err(WireError::TooMany {
            field: "templates",
            length,
            max: TEMPLATES_MAX,
        });
    }
    let mut templates = BTreeMap::new();
    for (id, spec) in message.templates {
        let id = TemplateId::new(id).map_err(named("templates"))?;
        templates.insert(id, Arc::new(container_spec_from_pb(spec)?));
    }
    let replicas = list("replicas", REPLICAS_MAX, message.replicas, |replica| {
        let template = TemplateId::new(replica.template_id).map_err(named("template_id"))?;
        if !templates.contains_key(&template) {
            return Err(invalid(
                "replicas.template_id",
                "names a template that is not there",
            ));
        }
        Ok(AssignedReplica {
            id: ReplicaId(replica.replica_id),
            service: replica.service.parse().map_err(named("replicas.service"))?,
            slot: replica.slot,
            revision: replica.revision,
            template,
            ports: list("replicas.ports", 32, replica.ports, |binding| {
                Ok(PortBinding {
                    container_port: port("replicas.ports", binding.container_port)?,
                    host_port: port("replicas.ports", binding.host_port)?,
                })
            })?,
            stop: replica.stop,
            paused: replica.paused,
            ended: replica.ended,
        })
    })?;
    Ok((
        fence,
        Assignment {
            generation: message.generation,
            replicas,
            templates,
        },
    ))
}

/// What a node says about itself, whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeReport {
    /// Generation of the assignment that it has accepted.
    pub assignment_generation: u64,
    /// Its engine.
    pub engine: EngineState,
    /// CPU since the last report as a ratio of capacity; none if it could not be read.
    pub cpu_ratio: Option<f64>,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Its replicas.
    pub replicas: Vec<ReplicaReport>,
    /// Images that it has, of those that its assignment names.
    pub images: Vec<String>,
    /// What it has.
    pub capacity: Capacity,
    /// What does not work there, in words with the way out; at most 64.
    pub problems: Vec<String>,
    /// What works and will hurt, in words with the way out; at most 64.
    pub advice: Vec<String>,
    /// The node's clock when it was sent; none: its agent does not say.
    pub time_ms: Option<TimeMs>,
    /// Version of its engine; empty: not known, or its agent does not say.
    pub engine_version: String,
}

/// What a node says about one replica. Ages instead of times: clocks of nodes are not trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaReport {
    /// Which.
    pub id: ReplicaId,
    /// Its state.
    pub state: ReplicaState,
    /// Why it failed or is unhealthy.
    pub reason: Option<FailReason>,
    /// The engine's id of its container.
    pub container_id: Option<String>,
    /// Since its present incarnation started.
    pub started_ago_ms: Option<u64>,
    /// Since its present incarnation was first healthy.
    pub healthy_ago_ms: Option<u64>,
    /// Times that the agent restarted it.
    pub restarts: u32,
    /// Memory in use.
    pub memory_bytes: u64,
    /// The same if it was read for this report; none otherwise.
    pub memory_sample_bytes: Option<u64>,
    /// CPU since the last report, thousandths of a core.
    pub cpu_milli: Option<f64>,
    /// How its container ended, once it is gone; none: not known.
    pub exit: Option<Exit>,
    /// TCP ports that its image says it listens on.
    pub exposed: BTreeSet<u16>,
}

impl ReplicaReport {
    /// On the reader's clock; samples are the reader's to keep.
    #[must_use]
    pub fn status(&self, now_ms: TimeMs) -> ReplicaStatus {
        ReplicaStatus {
            id: self.id,
            state: self.state,
            reason: self.reason.clone(),
            container_id: self.container_id.clone(),
            started_ms: self.started_ago_ms.map(|ago| now_ms.saturating_sub(ago)),
            healthy_ms: self.healthy_ago_ms.map(|ago| now_ms.saturating_sub(ago)),
            restarts: self.restarts,
            exit: self.exit.filter(|_| self.state == ReplicaState::Gone),
            exposed: (!self.exposed.is_empty()).then(|| Arc::new(self.exposed.clone())),
        }
    }
}

/// To the wire.
#[must_use]
pub fn node_report_to_pb(report: &NodeReport) -> pb::NodeReport {
    pb::NodeReport {
        assignment_generation: report.assignment_generation,
        engine: match report.engine {
            EngineState::Ok => pb::EngineState::Ok,
            EngineState::Stuck => pb::EngineState::Stuck,
            EngineState::Down => pb::EngineState::Down,
        }
        .into(),
        cpu_ratio: report.cpu_ratio,
        memory_used_bytes: report.memory_used_bytes,
        replicas: report.replicas.iter().map(replica_to).collect(),
        images: report.images.clone(),
        capacity: Some(capacity_to_pb(&report.capacity)),
        problems: report.problems.clone(),
        advice: report.advice.clone(),
        time_ms: report.time_ms,
        engine_version: report.engine_version.clone(),
    }
}

/// To the wire.
#[must_use]
pub fn capacity_to_pb(capacity: &Capacity) -> pb::Capacity {
    pb::Capacity {
        cpu_milli: capacity.cpu_milli,
        memory_bytes: capacity.memory_bytes,
        os: capacity.os.clone(),
        arch: capacity.arch.clone(),
        engine_labels: capacity.engine_labels.clone().into_iter().collect(),
        volumes: capacity.volumes.as_ref().map(|here| pb::VolumesHere {
            made_ms: here.clone().into_iter().collect(),
        }),
    }
}

/// From the wire; longer words than any platform has are cut, engine labels beyond the limits
/// left out.
#[must_use]
pub fn capacity_from_pb(capacity: pb::Capacity) -> Capacity {
    let word = |text: String| text.chars().take(32).collect();
    Capacity {
        cpu_milli: capacity.cpu_milli,
        memory_bytes: capacity.memory_bytes,
        os: word(capacity.os),
        arch: word(capacity.arch),
        engine_labels: engine_labels(capacity.engine_labels),
        volumes: capacity.volumes.and_then(|here| {
            let all = here.made_ms;
            // Half a list would say of what was cut that it is not there.
            (all.len() <= VOLUMES_TOLD_MAX).then(|| all.into_iter().collect())
        }),
    }
}

/// Engine labels that are passed on: the first [`ENGINE_LABELS_MAX`] in order of those whose key
/// has 1 to [`ENGINE_LABEL_KEY_MAX`] bytes and whose value at most [`ENGINE_LABEL_VALUE_MAX`]. A
/// label that was cut could match what it must not.
#[must_use]
pub fn engine_labels(
    labels: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let fits = |key: &str, value: &str| {
        !key.is_empty()
            && key.len() <= ENGINE_LABEL_KEY_MAX
            && value.len() <= ENGINE_LABEL_VALUE_MAX
    };
    let sorted: BTreeMap<String, String> = labels
        .into_iter()
        .filter(|(key, value)| fits(key, value))
        .collect();
    sorted.into_iter().take(ENGINE_LABELS_MAX).collect()
}

/// From the wire, checked. A CPU value that is no number is passed on: the planner counts it as
/// missing and says so.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn node_report_from_pb(report: pb::NodeReport) -> Result<NodeReport, WireError> {
    let engine = match report.engine() {
        pb::EngineState::Unspecified | pb::EngineState::Ok => EngineState::Ok,
        pb::EngineState::Stuck => EngineState::Stuck,
        pb::EngineState::Down => EngineState::Down,
    };
    let short = |text: String| -> Result<String, WireError> {
        Ok(text.chars().take(PROBLEM_CHARS_MAX).collect())
    };
    Ok(NodeReport {
        assignment_generation: report.assignment_generation,
        engine,
        cpu_ratio: report.cpu_ratio,
        memory_used_bytes: report.memory_used_bytes,
        replicas: list("replicas", REPLICAS_MAX, report.replicas, replica_from)?,
        images: bounded("images", 256, report.images)?,
        capacity: report.capacity.map(capacity_from_pb).unwrap_or_default(),
        problems: list("problems", PROBLEMS_MAX, report.problems, short)?,
        advice: list("advice", PROBLEMS_MAX, report.advice, short)?,
        time_ms: report.time_ms,
        engine_version: short(report.engine_version)?,
    })
}

fn replica_to(replica: &ReplicaReport) -> pb::ReplicaStatus {
    pb::ReplicaStatus {
        replica_id: replica.id.0,
        state: match replica.state {
            ReplicaState::Assigned => pb::ReplicaState::Assigned,
            ReplicaState::Pulling => pb::ReplicaState::Pulling,
            ReplicaState::Starting => pb::ReplicaState::Starting,
            ReplicaState::Healthy => pb::ReplicaState::Healthy,
            ReplicaState::Unhealthy => pb::ReplicaState::Unhealthy,
            ReplicaState::Paused => pb::ReplicaState::Paused,
            ReplicaState::Completed => pb::ReplicaState::Completed,
            ReplicaState::Stopping => pb::ReplicaState::Stopping,
            ReplicaState::Gone => pb::ReplicaState::Gone,
            ReplicaState::Failed => pb::ReplicaState::Failed,
        }
        .into(),
        reason: replica.reason.as_ref().map(fail_reason_to_pb),
        container_id: replica.container_id.clone().unwrap_or_default(),
        started_ago_ms: replica.started_ago_ms,
        healthy_ago_ms: replica.healthy_ago_ms,
        restarts: replica.restarts,
        memory_bytes: replica.memory_bytes,
        memory_sample_bytes: replica.memory_sample_bytes,
        cpu_milli: replica.cpu_milli,
        exit: replica.exit.map(exit_to_pb),
        exposed_ports: replica
            .exposed
            .iter()
            .map(|port| u32::from(*port))
            .collect(),
    }
}

fn replica_from(replica: pb::ReplicaStatus) -> Result<ReplicaReport, WireError> {
    let state = match replica.state() {
        pb::ReplicaState::Assigned => ReplicaState::Assigned,
        pb::ReplicaState::Pulling => ReplicaState::Pulling,
        pb::ReplicaState::Starting => ReplicaState::Starting,
        pb::ReplicaState::Healthy => ReplicaState::Healthy,
        pb::ReplicaState::Unhealthy => ReplicaState::Unhealthy,
        pb::ReplicaState::Paused => ReplicaState::Paused,
        pb::ReplicaState::Completed => ReplicaState::Completed,
        pb::ReplicaState::Stopping => ReplicaState::Stopping,
        pb::ReplicaState::Gone => ReplicaState::Gone,
        pb::ReplicaState::Failed => ReplicaState::Failed,
        pb::ReplicaState::Unspecified => return Err(invalid("replicas.state", "is not known")),
    };
    let container_id = replica.container_id;
    Ok(ReplicaReport {
        id: ReplicaId(replica.replica_id),
        state,
        reason: replica.reason.map(fail_reason_from_pb).transpose()?,
        container_id: (!container_id.is_empty()).then(|| container_id.chars().take(64).collect()),
        started_ago_ms: replica.started_ago_ms,
        healthy_ago_ms: replica.healthy_ago_ms,
        restarts: replica.restarts,
        memory_bytes: replica.memory_bytes,
        memory_sample_bytes: replica.memory_sample_bytes,
        cpu_milli: replica.cpu_milli,
        exit: replica.exit.map(exit_from_pb),
        exposed: list(
            "replicas.exposed_ports",
            EXPOSED_MAX,
            replica.exposed_ports,
            |exposed| port("replicas.exposed_ports", exposed),
        )?
        .into_iter()
        .collect(),
    })
}

/// What an edge says about itself, whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeReport {
    /// Generation that its HAProxy was seen to run; the rest was read after that.
    pub routes_generation: u64,
    /// Replicas that have a server there.
    pub servers: ServersByService,
    /// Services that have a backend there.
    pub backends: BTreeMap<ServiceKey, BackendObserved>,
    /// Since the counters were read; none: its agent does not say.
    pub stats_ago_ms: Option<u64>,
    /// What is wrong, in words.
    pub problem: Option<String>,
    /// HAProxy's version.
    pub haproxy_version: String,
    /// Services that cannot be reached there as wanted, and why, in words.
    pub refused: BTreeMap<ServiceKey, String>,
    /// Other programs that listen on ports of its HAProxy.
    pub sharers: PortsBySharer,
    /// Certificates that its routes name; none: its agent does not say.
    pub certificates: Option<CertificatesObserved>,
    /// What was mended last, oldest first, each with its age.
    pub repairs: Vec<(u64, Repair)>,
}

/// To the wire.
#[must_use]
pub fn edge_report_to_pb(report: &EdgeReport) -> pb::EdgeReport {
    let server = |key: &ServiceKey, id: &ReplicaId, server: &ServerObserved| pb::ServerStatus {
        service: key.to_string(),
        replica_id: id.0,
        check: match server.check {
            CheckState::Up => pb::CheckState::Up,
            CheckState::Down => pb::CheckState::Down,
            CheckState::Unknown => pb::CheckState::Unknown,
        }
        .into(),
        admin: match server.admin {
            ServerAdmin::Ready => pb::ServerAdmin::Ready,
            ServerAdmin::Drain => pb::ServerAdmin::Drain,
            ServerAdmin::Maint => pb::ServerAdmin::Maint,
        }
        .into(),
        sessions: server.sessions,
        queued: server.queued,
        requests_total: server.answers.requests_total,
        errors_total: server.answers.errors_total,
        response_ms: server.answers.response_ms,
    };
    let backend = |(key, backend): (&ServiceKey, &BackendObserved)| pb::BackendStatus {
        service: key.to_string(),
        rate: backend.rate,
        sessions: backend.sessions,
        queued: backend.queued,
        requests_total: backend.requests_total,
        errors_total: backend.errors_total,
        response_ms: backend.response_ms,
    };
    let servers = report.servers.iter().flat_map(|(key, servers)| {
        let servers = servers.iter();
        servers.map(move |(id, observed)| server(key, id, observed))
    });
    pb::EdgeReport {
        routes_generation: report.routes_generation,
        servers: servers.collect(),
        backends: report.backends.iter().map(backend).collect(),
        stats_ago_ms: report.stats_ago_ms,
        problem: report.problem.clone().unwrap_or_default(),
        haproxy_version: report.haproxy_version.clone(),
        refused: report
            .refused
            .iter()
            .map(|(service, why)| pb::RefusedService {
                service: service.to_string(),
                why: why.clone(),
            })
            .collect(),
        sharers: edge::sharers_to_pb(&report.sharers),
        certificates: report.certificates.as_ref().map(edge::certificates_to_pb),
        repairs: edge::repairs_to_pb(&report.repairs),
    }
}

/// From the wire, checked.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn edge_report_from_pb(report: pb::EdgeReport) -> Result<EdgeReport, WireError> {
    let server = |server: pb::ServerStatus| {
        let key: ServiceKey = server.service.parse().map_err(named("servers.service"))?;
        let check = match server.check() {
            pb::CheckState::Up => CheckState::Up,
            pb::CheckState::Down => CheckState::Down,
            _ => CheckState::Unknown,
        };
        let admin = match server.admin() {
            pb::ServerAdmin::Ready => ServerAdmin::Ready,
            pb::ServerAdmin::Drain => ServerAdmin::Drain,
            pb::ServerAdmin::Maint => ServerAdmin::Maint,
            pb::ServerAdmin::Unspecified => return Err(invalid("servers.admin", "is not known")),
        };
        let (sessions, queued) = (server.sessions, server.queued);
        let observed = ServerObserved {
            check,
            admin,
            sessions,
            queued,
            answers: ServerAnswers {
                requests_total: server.requests_total,
                errors_total: server.errors_total,
                response_ms: server.response_ms,
            },
        };
        Ok((key, ReplicaId(server.replica_id), observed))
    };
    let backend = |backend: pb::BackendStatus| {
        let key: ServiceKey = backend.service.parse().map_err(named("backends.service"))?;
        let seen = BackendObserved {
            rate: backend.rate,
            sessions: backend.sessions,
            queued: backend.queued,
            requests_total: backend.requests_total,
            errors_total: backend.errors_total,
            response_ms: backend.response_ms,
            samples: Arc::default(),
        };
        Ok((key, seen))
    };
    let mut servers = ServersByService::new();
    // An agent of an earlier version does not say the service: what it reports is not counted.
    let named_servers = report.servers.into_iter().filter(|s| !s.service.is_empty());
    let named_servers: Vec<_> = named_servers.collect();
    for (key, id, observed) in list("servers", TEMPLATES_MAX * 64, named_servers, server)? {
        servers.entry(key).or_default().insert(id, observed);
    }
    let text = |text: String, chars: usize| text.chars().take(chars).collect::<String>();
    let refused = |refused: pb::RefusedService| {
        let key: ServiceKey = refused.service.parse().map_err(named("refused.service"))?;
        Ok((key, text(refused.why, 500)))
    };
    Ok(EdgeReport {
        routes_generation: report.routes_generation,
        servers,
        backends: list("backends", TEMPLATES_MAX, report.backends, backend)?
            .into_iter()
            .collect(),
        stats_ago_ms: report.stats_ago_ms,
        problem: (!report.problem.is_empty()).then(|| text(report.problem, 500)),
        haproxy_version: text(report.haproxy_version, 32),
        refused: list("refused", TEMPLATES_MAX, report.refused, refused)?
            .into_iter()
            .collect(),
        sharers: edge::sharers_from_pb(report.sharers)?,
        certificates: report
            .certificates
            .map(edge::certificates_from_pb)
            .transpose()?,
        repairs: edge::repairs_from_pb(report.repairs)?,
    })
}

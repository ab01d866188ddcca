//! The only place that knows how plans and specs are laid out: everybody else here asks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::cluster::Cluster;
use longshore_model::autoscale::{Behavior, Metric, OnMissing, RateAmount, RatePolicy, Signal};
use longshore_model::depends::Until;
use longshore_model::job::{Job, with_runs};
use longshore_model::observe::{CheckState, CpuSample, EdgeObserved, NodeObserved};
use longshore_model::plan::{Failures, Replica, ScaleChange};
use longshore_model::report::ServiceReport;
use longshore_model::rollout::{Phase, Rollout};
use longshore_model::spec::{
    Constraint, FailureAction, JobSpec, NodeAttribute, PlacementPolicy, PlacementSpec, Resources,
    RouteSpec, ServiceMode, UpdateOrder, UpdateSpec,
};
use longshore_model::{
    AutoscaleSpec, ContainerSpec, Memory, NodeId, Observed, Plan, Reason, ReplicaId, Report,
    ServiceKey, ServiceName, ServiceSpec, SharedMap, TimeMs,
};
use longshore_planner::PlanInput;

use crate::policies::{Policies, Shift};
use crate::volumes;

/// All replicas of a plan, in any fixed order.
pub fn replicas(plan: &Plan) -> impl Iterator<Item = &Replica> {
    plan.replicas().map(AsRef::as_ref)
}

/// One replica of a plan.
#[must_use]
pub fn replica(plan: &Plan, id: ReplicaId) -> Option<&Replica> {
    plan.replica(id).map(AsRef::as_ref)
}

/// Replicas of one service.
pub fn of_service<'a>(plan: &'a Plan, key: &'a ServiceKey) -> impl Iterator<Item = &'a Replica> {
    plan.replicas_of(key).map(AsRef::as_ref)
}

/// Services of a plan with their count.
pub fn targets(plan: &Plan) -> impl Iterator<Item = (&ServiceKey, u32)> {
    plan.services.iter().map(|(key, s)| (key, s.target))
}

/// Count of one service; 0 if the plan does not know it.
#[must_use]
pub fn target(plan: &Plan, key: &ServiceKey) -> u32 {
    plan.services.get(key).map_or(0, |service| service.target)
}

/// Last change of its count.
#[must_use]
pub fn last_change<'a>(plan: &'a Plan, key: &ServiceKey) -> Option<&'a ScaleChange> {
    plan.services.get(key)?.last_change.as_ref()
}

/// Its failures.
#[must_use]
pub fn failures<'a>(plan: &'a Plan, key: &ServiceKey) -> Option<&'a Failures> {
    plan.services.get(key)?.failures.as_ref()
}

/// Has its rollout stopped until somebody decides?
#[must_use]
pub fn rollout_stopped(plan: &Plan, key: &ServiceKey) -> bool {
    let rollout = plan
        .services
        .get(key)
        .and_then(|service| service.rollout.as_ref());
    rollout.is_some_and(|rollout| rollout.phase == Phase::Failed)
}

/// Where its present or last rollout is.
#[must_use]
pub fn rollout<'a>(plan: &'a Plan, key: &ServiceKey) -> Option<&'a Rollout> {
    plan.services.get(key)?.rollout.as_ref()
}

/// Is what the file asks for given up, and the last good one run instead?
#[must_use]
pub fn rolled_back(plan: &Plan, key: &ServiceKey) -> bool {
    let service = plan.services.get(key);
    service.is_some_and(|service| service.refused.is_some())
}

/// What a replica reserves.
#[must_use]
pub fn resources(plan: &Plan, replica: &Replica) -> Resources {
    let template = plan.template(replica);
    template.map_or_else(Resources::default, |spec| spec.resources)
}

/// The image of a replica.
#[must_use]
pub fn image<'a>(plan: &'a Plan, replica: &Replica) -> &'a str {
    plan.template(replica).map_or("", |spec| &spec.image)
}

/// Ports of its node that the container of a replica has by its file.
#[must_use]
pub fn fixed_ports(plan: &Plan, replica: &Replica) -> usize {
    plan.template(replica)
        .map_or(0, |spec| spec.fixed_ports.len())
}

/// Nodes that are declared lost.
pub fn lost(plan: &Plan) -> impl Iterator<Item = (&NodeId, TimeMs)> {
    plan.lost.iter().map(|(id, at_ms)| (id, *at_ms))
}

/// Is a node declared lost?
#[must_use]
pub fn is_lost(plan: &Plan, node: &NodeId) -> bool {
    plan.lost.contains_key(node)
}

/// What a report says of a service.
#[must_use]
pub fn service_report<'a>(report: &'a Report, key: &ServiceKey) -> Option<&'a ServiceReport> {
    report.services.get(key).map(AsRef::as_ref)
}

/// Does a service wait because nothing can take its replicas?
#[must_use]
pub fn unplaceable(report: &Report, key: &ServiceKey) -> bool {
    let waits = service_report(report, key).map_or(&[][..], |service| &service.waits);
    waits
        .iter()
        .any(|wait| matches!(wait, Reason::Unplaceable { .. }))
}

/// Label of nodes that share a rack.
pub const RACK: &str = "rack";

/// How the job of an app is called.
#[must_use]
pub fn job_name() -> Option<ServiceName> {
    ServiceName::new("job").ok()
}

/// Where the job of a service's app is, if it has one.
#[must_use]
pub fn job<'a>(plan: &'a Plan, service: &ServiceKey) -> Option<&'a Job> {
    let key = ServiceKey::new(service.app.clone(), job_name()?);
    plan.services.get(&key)?.job.as_ref()
}

/// What a user asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// See [`crate::engine::Image::of`].
    pub image: String,
    /// Count.
    pub replicas: u32,
    /// Edges listen there; none: no route.
    pub listen_port: Option<u16>,
    /// Old ones stop before new ones start.
    pub stop_first: bool,
    /// Replaced at a time.
    pub parallelism: u32,
    /// May be missing during a change.
    pub max_unavailable: u32,
    /// How long sessions may finish.
    pub drain_ms: u64,
    /// Scales with this signal, up to this many.
    pub scaling: Option<(Signal, u32)>,
    /// No node can have it.
    pub impossible: bool,
    /// Replicas kept paused.
    pub warm: u32,
    /// What a failed rollout does.
    pub failure_action: FailureAction,
    /// Between two batches.
    pub delay_ms: u64,
    /// What only the youngest seeds say.
    pub policies: Policies,
    /// A job that goes before it.
    pub job: Option<Wished>,
    /// The engine's name of a volume with data on one node that it writes to.
    pub volume: Option<String>,
}

/// A job that goes before a service, as users ask for it.
#[derive(Debug, Clone)]
pub struct Wished {
    /// See [`crate::engine::Image::of`].
    pub image: String,
    /// Times that it is started at most; 0: until it ends with 0.
    pub tries_max: u32,
}

impl Wished {
    /// As a spec.
    fn spec(&self) -> Arc<ServiceSpec> {
        Arc::new(ServiceSpec {
            container: ContainerSpec {
                image: self.image.clone(),
                stop_grace_ms: 1_000,
                resources: Resources {
                    memory_reserved_bytes: 16 << 20,
                    ..Resources::default()
                },
                ..ContainerSpec::default()
            },
            replicas: 1,
            job: Some(JobSpec {
                tries_max: self.tries_max,
            }),
            ..ServiceSpec::default()
        })
    }
}

impl Wish {
    /// As a spec.
    #[must_use]
    pub fn spec(&self) -> Arc<ServiceSpec> {
        let (mode, replicas) = self.counted();
        let route = |listen_port| RouteSpec::new(listen_port, 8_080);
        Arc::new(ServiceSpec {
            container: ContainerSpec {
                image: self.image.clone(),
                stop_grace_ms: 1_000,
                ports: vec![8_080],
                fixed_ports: self
                    .policies
                    .fixed_port
                    .map(|port| (8_080, port))
                    .into_iter()
                    .collect(),
                resources: Resources {
                    cpu_limit_milli: 100,
                    cpu_reserved_milli: 50,
                    memory_reserved_bytes: 16 << 20,
                    ..Resources::default()
                },
                mounts: self.volume.iter().map(|v| volumes::mount(v)).collect(),
                ..ContainerSpec::default()
            },
            mode,
            replicas,
            placement: PlacementSpec {
                constraints: self.impossible.then(nowhere).into_iter().collect(),
                max_per_node: self.policies.max_per_node,
                policy: match self.policies.packs {
                    true => PlacementPolicy::Binpack,
                    false => PlacementPolicy::Spread,
                },
                spread_labels: self
                    .policies
                    .racks
                    .then(|| RACK.into())
                    .into_iter()
                    .collect(),
                ..PlacementSpec::default()
            },
            update: UpdateSpec {
                parallelism: self.parallelism,
                order: match (self.stop_first, self.policies.per_node()) {
                    (true, _) => UpdateOrder::StopFirst,
                    (false, None) if self.volume.is_none() => UpdateOrder::StartFirst,
                    // A node that has one has no room for another, a volume no second writer.
                    (false, _) => UpdateOrder::Auto,
                },
                max_unavailable: self.max_unavailable,
                // Shortened as the planner's waits are: six replicas, one at a time, must fit
                // into the minute of calm.
                monitor_ms: match self.policies.is_timed() {
                    true => 2_500,
                    false => 1_500,
                },
                failure_action: self.failure_action,
                failure_permille_max: self.policies.failure_permille_max,
                delay_ms: self.delay_ms,
            },
            autoscale: self
                .scaling
                .clone()
                .map(|(signal, max)| scaling(signal, max, self)),
            routes: self.listen_port.map(route).into_iter().collect(),
            drain_ms: self.drain_ms,
            gate: self.policies.gate.clone(),
            rollback: Default::default(),
            depends_on: self.depends_on(),
            ..ServiceSpec::default()
        })
    }

    fn counted(&self) -> (ServiceMode, u32) {
        match self.policies.global {
            true => (ServiceMode::Global, 0),
            false => (ServiceMode::Replicated, self.replicas),
        }
    }

    fn depends_on(&self) -> BTreeMap<ServiceName, Until> {
        let job = job_name().filter(|_| self.job.is_some());
        job.map(|name| (name, Until::Completed))
            .into_iter()
            .collect()
    }

    /// All services of the app, as the controller keeps them.
    #[must_use]
    pub fn app(&self, name: &ServiceName) -> SharedMap<ServiceName, Arc<ServiceSpec>> {
        let mut services: SharedMap<_, _> = [(name.clone(), self.spec())].into();
        if let (Some(job), Some(name)) = (&self.job, job_name()) {
            services.insert(name, job.spec());
        }
        with_runs(services)
    }

    /// Fewest replicas that must serve while a change is made by choice.
    #[must_use]
    pub fn floor(&self, target: u32) -> u32 {
        if self.stop_first || self.volume.is_some() {
            let away = self.max_unavailable.max(self.parallelism).max(1);
            return target.saturating_sub(away);
        }
        target
            .saturating_sub(self.max_unavailable)
            .max(1)
            .min(target)
    }
}

/// No node has such a label.
fn nowhere() -> Constraint {
    Constraint {
        attribute: NodeAttribute::Label("nowhere".into()),
        equal: true,
        value: "true".into(),
    }
}

fn scaling(signal: Signal, max: u32, wish: &Wish) -> AutoscaleSpec {
    let calm = |stabilization_ms| Behavior {
        stabilization_ms,
        tolerance: 0.1,
        policies: vec![RatePolicy {
            amount: RateAmount::Replicas(4),
            period_ms: 2_000,
        }],
        select_min: false,
    };
    AutoscaleSpec {
        min: u32::from(!wish.policies.to_zero),
        max,
        metrics: vec![Metric {
            target: crate::policies::target(&signal),
            kind: signal.default_kind(),
            signal,
        }],
        steps: Vec::new(),
        window_ms: wish.policies.window_ms(),
        warmup_ms: 1_000,
        scale_up: calm(0),
        scale_down: calm(4_000),
        on_missing: match wish.policies.gives_back {
            true => OnMissing::ScaleToMin,
            false => OnMissing::Hold,
        },
        mode: wish.policies.mode,
        schedules: wish.policies.shift.iter().map(Shift::schedule).collect(),
        warm: wish.warm,
    }
}

/// A plan in words, for people.
#[must_use]
pub fn describe(plan: &Plan, report: &Report) -> Vec<String> {
    let replica = |r: &Replica| {
        let leaving = r.leaving.as_ref();
        let leaving = leaving.map(|l| (&l.reason, l.drain_generation, l.park_generation));
        format!(
            "  {} {} slot {} on {} {} {:?} stop {} leaving {leaving:?}",
            r.id,
            r.service,
            r.slot,
            r.node,
            image(plan, r),
            r.traffic,
            r.stop
        )
    };
    let service = |(key, entry): (&ServiceKey, &Arc<longshore_model::plan::ServicePlan>)| {
        let waits = service_report(report, key).map(|r| &r.waits);
        format!(
            "  {key} target {} failures {:?} waits {waits:?}",
            entry.target, entry.failures
        )
    };
    let head = format!("plan {} routes {}", plan.version, plan.routes_generation);
    [head]
        .into_iter()
        .chain(replicas(plan).map(replica))
        .chain(plan.services.iter().map(service))
        .chain(lost(plan).map(|(id, at_ms)| format!("  {id} lost at {at_ms}")))
        .collect()
}

/// What was seen, in words, for people.
#[must_use]
pub fn describe_observed(observed: &Observed, plan: &Plan) -> Vec<String> {
    let node = |(id, seen): (&NodeId, &Arc<NodeObserved>)| {
        let said = seen.replicas.values();
        let said: Vec<String> = said.map(|s| format!("{} {:?}", s.id, s.state)).collect();
        let wanted = plan.generations.get(id);
        format!(
            "  {id} connected {} engine {:?} generation {} of {wanted:?}: {said:?}",
            seen.session.connected, seen.engine, seen.assignment_generation
        )
    };
    let edge = |(id, seen): (&NodeId, &EdgeObserved)| {
        let said = seen.servers.values().flat_map(|servers| servers.iter());
        let said: Vec<String> = said
            .map(|(id, s)| format!("{id} {:?} {:?}", s.admin, s.check))
            .collect();
        format!(
            "  edge {id} connected {} generation {} {:?}: {said:?}",
            seen.session.connected, seen.routes_generation, seen.problem
        )
    };
    let nodes = observed.nodes.iter();
    nodes
        .map(node)
        .chain(edges_seen(observed).map(edge))
        .collect()
}

/// What was seen of a node.
#[must_use]
pub fn node_seen<'a>(observed: &'a Observed, id: &NodeId) -> Option<&'a NodeObserved> {
    observed.nodes.get(id).map(AsRef::as_ref)
}

/// Does a fresh look of an edge find a replica of that node well?
#[must_use]
pub fn finds_well(edge: &EdgeObserved, plan: &Plan, node: &NodeId) -> bool {
    let mut servers = edge.servers.values().flat_map(|servers| servers.iter());
    servers.any(|(id, server)| {
        let there = replica(plan, *id);
        server.check == CheckState::Up && there.is_some_and(|r| r.node == *node)
    })
}

/// Does the last look of an edge find a replica down?
#[must_use]
pub fn finds_down(edge: &EdgeObserved, key: &ServiceKey, id: ReplicaId) -> bool {
    let server = edge.server(key, id);
    server.is_some_and(|server| server.check == CheckState::Down)
}

/// CPU samples of a replica.
#[must_use]
pub fn replica_samples(seen: &NodeObserved, id: ReplicaId) -> &[CpuSample] {
    let samples = seen.samples.replicas.get(&id);
    samples.map_or(&[], |samples| &samples.cpu_milli)
}

/// CPU samples of a node.
#[must_use]
pub fn node_samples(seen: &NodeObserved) -> &[CpuSample] {
    &seen.samples.cpu_ratio
}

/// What was seen of all edges.
pub fn edges_seen(observed: &Observed) -> impl Iterator<Item = (&NodeId, &EdgeObserved)> {
    observed.edges.iter().map(|(id, edge)| (id, edge.as_ref()))
}

/// Plans once more with what a run was given; what the judges compare.
#[must_use]
pub fn plan_again(
    cluster: &Cluster,
    now_ms: TimeMs,
    current: &Arc<Plan>,
    memory: &Arc<Memory>,
    observed: &Observed,
) -> longshore_planner::Outcome {
    longshore_planner::plan(&PlanInput {
        now_ms,
        started_ms: cluster.started_ms,
        desired: &cluster.view().desired,
        current,
        memory,
        observed,
        config: &cluster.config.planner,
    })
}

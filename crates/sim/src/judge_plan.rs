//! Judges of what the controller commits, by their own logic: nothing here asks the planner's
//! own check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::cluster::{Cluster, View};
use longshore_model::node::DrainOrder;
use longshore_model::observe::{EngineState, SessionObserved};
use longshore_model::plan::Traffic;
use longshore_model::reason::{LeaveReason, ScaleCause};
use longshore_model::{Availability, Memory, Observed, Plan, Replica, ReplicaState};

use crate::adapter::{self, Wish};
use crate::each_node;
use crate::judge_policy::{floor, sources};
use crate::truth::{Life, Pardon};
use crate::world::World;

/// Rounds of starts of one template that never was healthy, within [`ROUNDS_WITHIN_MS`].
const ROUNDS_MAX: usize = 8;
const ROUNDS_WITHIN_MS: u64 = 20_000;
/// What ended so shortly ago may still count as serving.
const LAG_MS: u64 = 4_000;

/// One commit, with all that it may be judged by.
pub(crate) struct Commit<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) before: &'a Arc<Plan>,
    pub(crate) after: &'a Arc<Plan>,
    pub(crate) observed: &'a Observed,
    pub(crate) now_ms: u64,
}

impl Commit<'_> {
    pub(crate) fn observing(&self) -> bool {
        let until = self.cluster.started_ms + self.cluster.config.planner.observe_ms;
        self.now_ms < until
    }

    /// Not even one window of the service's metrics was watched.
    fn observes_metrics(&self, wish: Option<&Wish>) -> bool {
        let window_ms = wish.map_or(0, |wish| wish.policies.window_ms());
        self.observing() || self.now_ms < self.cluster.started_ms + window_ms
    }

    fn silent_ms(&self, session: &SessionObserved) -> u64 {
        let contact = session.last_echo_ms.max(session.since_ms);
        let watched = self.observed.watched_since_ms;
        self.now_ms
            .saturating_sub(contact.max(self.cluster.started_ms).max(watched))
    }

    pub(crate) fn alive(&self, session: &SessionObserved) -> bool {
        let contact = session.last_echo_ms.max(session.since_ms);
        let silent_ms = self.now_ms.saturating_sub(contact);
        session.connected && silent_ms <= self.cluster.config.planner.session_timeout_ms
    }
}

impl World {
    /// After a planning run.
    pub(crate) fn judge_run(
        &mut self,
        before: &View,
        observed: &Observed,
        kept: Option<&Arc<Memory>>,
    ) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        let after = cluster.view();
        if let Some(problem) = after.problem.as_ref().filter(|p| p.contains("invariant")) {
            self.violation(problem);
        }
        let commit = Commit {
            cluster: &cluster,
            before: &before.plan,
            after: &after.plan,
            observed,
            now_ms: cluster.now_ms(),
        };
        let mut found = Vec::new();
        if let Some(memory) = kept.filter(|_| after.problem.is_none()) {
            found.extend(planned_once(&commit, memory));
        }
        if after.plan.version != before.plan.version {
            self.commits += 1;
            self.judge_commit(&commit, &mut found);
        }
        if self.scenario.policies && after.problem.is_none() {
            self.judge_counts(&commit, &mut found);
        }
        if !found.is_empty() {
            self.describe();
        }
        for what in found {
            self.violation(&what);
        }
    }

    /// A new process has read the plan: a commit whose word was lost is learnt now.
    pub(crate) fn judge_loaded(&mut self) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        let plan = &cluster.view().plan;
        // It was decided by the clock of the process before.
        let now_ms = self.control.decided_ms;
        let known: Vec<_> = self.truth.lives.keys().copied().collect();
        for id in known {
            if adapter::replica(plan, id).is_none()
                && let Some(life) = self.truth.lives.get_mut(&id)
            {
                if life.planned && adapter::is_lost(plan, &life.node) {
                    life.pardon.all = true;
                    (life.lost_at, life.made_up_at) = (Some(self.now), None);
                }
                life.planned = false;
            }
        }
        for replica in adapter::replicas(plan) {
            let life = self.truth.lives.entry(replica.id);
            let life = life.or_insert_with(|| Life::new(replica));
            follow(life, replica, now_ms, &self.scenario.planner);
        }
        self.truth.make_up(plan, self.now);
    }

    fn judge_commit(&mut self, commit: &Commit<'_>, found: &mut Vec<String>) {
        self.judge_new(commit, found);
        self.judge_leaving(commit, found);
        judge_lost(commit, found);
        found.extend(self.judge_loops(commit.before, commit.after, commit.now_ms));
        self.judge_targets(commit, found);
        if self.scenario.policies {
            self.judge_policies(commit, found);
        }
        if self.scenario.jobs {
            self.judge_jobs(commit, found);
        }
        let gone: BTreeSet<usize> = self.edges_gone(commit);
        let planner = &self.scenario.planner;
        for replica in adapter::replicas(commit.after) {
            let life = self.truth.lives.entry(replica.id);
            let life = life.or_insert_with(|| Life::new(replica));
            let was_out = life.traffic != Traffic::Serve;
            let stopped = life.stop;
            follow(life, replica, commit.now_ms, planner);
            // Two witnesses called its node gone: it is given up as dead, also where it was
            // leaving for another reason before, and even if the node then comes back.
            life.pardon.all |=
                replica.leaving.is_some() && adapter::is_lost(commit.after, &replica.node);
            if adapter::is_lost(commit.after, &replica.node) {
                (life.lost_at, life.made_up_at) = (Some(self.now), None);
            }
            if replica.stop && !stopped {
                life.pardon.edges.clone_from(&gone);
            }
            if was_out && replica.traffic == Traffic::Serve {
                let seen = adapter::node_seen(commit.observed, &replica.node);
                let said = seen.and_then(|seen| seen.replicas.get(&replica.id));
                if said.is_none_or(|said| said.state != ReplicaState::Healthy) {
                    found.push(format!("{} is routed without being healthy", replica.id));
                }
            }
        }
        for was in adapter::replicas(commit.before) {
            if adapter::replica(commit.after, was.id).is_some() {
                continue;
            }
            let away = adapter::is_lost(commit.after, &was.node)
                || !commit.cluster.view().desired.nodes.contains_key(&was.node);
            let seen = adapter::node_seen(commit.observed, &was.node);
            let listed = seen.and_then(|seen| seen.replicas.get(&was.id));
            let gone = listed.is_none_or(|said| said.state == ReplicaState::Gone);
            let over = away || (was.stop && gone);
            if !over {
                found.push(format!("{} is forgotten while it may run", was.id));
            }
            if let Some(life) = self.truth.lives.get_mut(&was.id) {
                life.planned = false;
                life.pardon.all |= away;
                if away {
                    (life.lost_at, life.made_up_at) = (Some(self.now), None);
                }
            }
        }
        self.truth.make_up(commit.after, self.now);
    }

    /// Edges whose lease is over, as far as the controller can know.
    fn edges_gone(&self, commit: &Commit<'_>) -> BTreeSet<usize> {
        let lease_ms = commit.cluster.config.planner.edge_lease_ms;
        let hosts = self.hosts.iter().enumerate().filter(|(_, host)| host.edge);
        let gone = hosts.filter(|(_, host)| {
            let seen = commit.observed.edges.get(&host.id);
            let session = seen.map(|seen| seen.session).unwrap_or_default();
            !commit.alive(&session) && commit.silent_ms(&session) > lease_ms
        });
        gone.map(|(number, _)| number).collect()
    }

    /// 8 and 9: new replicas have new ids, a node that takes them, room and ports of their own;
    /// and a template that fails is tried with waits in between.
    fn judge_new(&mut self, commit: &Commit<'_>, found: &mut Vec<String>) {
        let mut ports: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
        let mut used: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        let mut slots = BTreeSet::new();
        for replica in adapter::replicas(commit.after) {
            let held = ports.entry(&replica.node).or_default();
            if let Some(port) = replica.ports.iter().find(|p| !held.insert(p.host_port)) {
                found.push(format!("{}: port {} twice", replica.node, port.host_port));
            }
            let wants = adapter::resources(commit.after, replica);
            let sum = used.entry(&replica.node).or_default();
            sum.0 += wants.cpu_reserved_milli;
            sum.1 += wants.memory_reserved_bytes;
            if replica.leaving.is_none() && !slots.insert((&replica.service, replica.slot)) {
                found.push(format!("{}: slot {} twice", replica.service, replica.slot));
            }
        }
        let fresh: Vec<&Replica> = adapter::replicas(commit.after)
            .filter(|r| adapter::replica(commit.before, r.id).is_none())
            .collect();
        for replica in &fresh {
            let id = replica.id;
            if self.truth.lives.contains_key(&id) {
                found.push(format!("id {id} is used again"));
            }
            let desired = &commit.cluster.view().desired;
            let node = desired.nodes.get(&replica.node);
            let open =
                node.is_some_and(|n| n.roles.worker && n.availability == Availability::Active);
            let seen = adapter::node_seen(commit.observed, &replica.node);
            let there =
                seen.is_some_and(|s| commit.alive(&s.session) && s.engine == EngineState::Ok);
            if !open || !there {
                found.push(format!(
                    "{id} is placed on {}, which takes nothing",
                    replica.node
                ));
            }
            let (cpu, memory) = used.get(&replica.node).copied().unwrap_or_default();
            if cpu > crate::host::CPU_MILLI || memory > crate::host::MEMORY_BYTES {
                found.push(format!("{} reserves more than it has", replica.node));
            }
            if self.users.of(&replica.service).is_some_and(|service| {
                service.wish.as_ref().is_some_and(|wish| wish.impossible)
                    && adapter::image(commit.after, replica)
                        == service.wish.as_ref().map_or("", |wish| &wish.image)
            }) {
                found.push(format!("{id} is placed against its constraint"));
            }
        }
        self.judge_crowding(commit, &fresh, found);
        self.judge_flapping(commit, &fresh, found);
        self.judge_rounds(&fresh, found);
    }

    fn judge_rounds(&mut self, fresh: &[&Replica], found: &mut Vec<String>) {
        // Nodes that join one after the other each begin with a service that has one there: it is
        // started again where it was started before.
        let tried = fresh.iter().map(|r| {
            let there = self.is_global(&r.service).then(|| r.node.clone());
            (r.service.clone(), r.template.clone(), there)
        });
        let tried: BTreeSet<_> = tried.collect();
        for key in tried {
            let worked = self
                .truth
                .lives
                .iter()
                .any(|(id, life)| life.template == key.1 && self.truth.was_reported(*id));
            let now = self.now;
            let rounds = self.truth.planned_at.entry(key.clone()).or_default();
            rounds.retain(|at| now - at <= ROUNDS_WITHIN_MS);
            rounds.push(now);
            if rounds.len() > ROUNDS_MAX && !worked {
                found.push(format!("{}: starts again without a back-off", key.0));
            }
        }
    }

    /// 3 and 4: what begins to leave by choice leaves enough that serves, and nothing is moved
    /// while the controller still watches.
    fn judge_leaving(&mut self, commit: &Commit<'_>, found: &mut Vec<String>) {
        let mut given: BTreeMap<_, u32> = BTreeMap::new();
        for replica in adapter::replicas(commit.after) {
            let Some(leaving) = &replica.leaving else {
                continue;
            };
            let was = adapter::replica(commit.before, replica.id);
            if was.is_none_or(|was| was.leaving.is_some()) {
                continue;
            }
            let forced = matches!(
                leaving.reason,
                LeaveReason::NodeLost | LeaveReason::Unreachable
            );
            let removed = !commit
                .cluster
                .view()
                .desired
                .nodes
                .contains_key(&replica.node);
            if commit.observing()
                && forced
                && !removed
                && !adapter::is_lost(commit.before, &replica.node)
            {
                found.push(format!(
                    "{} leaves while observing: {}",
                    replica.id, leaving.reason
                ));
            }
            let view = commit.cluster.view();
            let order = view.desired.nodes.get(&replica.node).and_then(|n| n.drain);
            // What its data holds there gains nothing by waiting.
            let held = self.users.of(&replica.service);
            let held = held.is_some_and(|service| service.usual.volume.is_some());
            let due = order.is_some_and(|order| held && order.force || is_due(commit, &order));
            if leaving.reason == LeaveReason::NodeDrainForced && !due {
                found.push(format!("{} is forced out before its time", replica.id));
            }
            let served = was.is_some_and(|was| was.traffic == Traffic::Serve && self.serves(was));
            if is_by_choice(&leaving.reason)
                && served
                && !was.is_some_and(|was| self.is_news(commit, was))
                && !each_node::is_excused(self, commit, replica, found)
            {
                *given.entry(replica.service.clone()).or_default() += 1;
                let drain_ms = self.users.of(&replica.service).map(|s| s.usual.drain_ms);
                let due_ms = leaving.since_ms.saturating_add(drain_ms.unwrap_or(0));
                if leaving.deadline_ms < due_ms {
                    found.push(format!(
                        "{}: its sessions have until {}, not {due_ms}",
                        replica.id, leaving.deadline_ms
                    ));
                }
            }
        }
        for (key, count) in given {
            let Some(service) = self.users.of(&key) else {
                continue;
            };
            let Some(wish) = service.wish.clone() else {
                continue;
            };
            let floor = floor(commit, &key, &wish);
            let serve = self.may_serve(commit, &key);
            if serve < floor {
                found.push(format!(
                    "{key}: {count} given up by choice, {serve} left that may serve, {floor} must"
                ));
            }
        }
    }

    /// Does it really answer requests of users?
    pub(crate) fn serves(&self, replica: &Replica) -> bool {
        let Some(port) = replica.ports.first() else {
            return false;
        };
        let address = std::net::SocketAddr::new(replica.address, port.host_port);
        let routed = self.users.of(&replica.service);
        let routed = routed.is_some_and(|service| service.usual.listen_port.is_some());
        let mut edges = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, h)| h.edge && h.haproxy.up);
        edges.any(|(number, host)| {
            let servers = host
                .haproxy
                .worker
                .values()
                .flat_map(|p| p.servers.values());
            let sent = servers
                .into_iter()
                .any(|s| s.address == address && s.takes());
            (sent || !routed) && self.answers(number, address)
        })
    }

    /// Is it reached again only since a moment ago? The last word of an edge is that it is not.
    fn is_news(&self, commit: &Commit<'_>, replica: &Replica) -> bool {
        let at = |port: u16| std::net::SocketAddr::new(replica.address, port);
        let ports: BTreeSet<_> = replica.ports.iter().map(|p| at(p.host_port)).collect();
        adapter::edges_seen(commit.observed).any(|(id, edge)| {
            let down = adapter::finds_down(edge, &replica.service, replica.id);
            let host = self.hosts.iter().find(|host| host.id == *id);
            let pools = host.into_iter().flat_map(|h| h.haproxy.worker.values());
            let mut servers = pools.flat_map(|pool| pool.servers.values());
            down && servers
                .any(|server| ports.contains(&server.address) && self.now < server.up_at + LAG_MS)
        })
    }

    /// Replicas that the controller may count on: their containers answer, or did so until a
    /// moment ago, or nobody can know.
    fn may_serve(&self, commit: &Commit<'_>, key: &longshore_model::ServiceKey) -> u32 {
        let now = self.now;
        let serving = adapter::of_service(commit.after, key).filter(|replica| {
            if replica.leaving.is_some() || replica.traffic != Traffic::Serve {
                return false;
            }
            let Some(host) = self.hosts.iter().find(|host| host.id == replica.node) else {
                return false;
            };
            let seen = adapter::node_seen(commit.observed, &replica.node);
            let stale =
                seen.is_none_or(|seen| commit.now_ms.saturating_sub(seen.reported_ms) > 1_500);
            let container = host
                .engine
                .containers
                .values()
                .find(|c| c.replica == replica.id);
            let answers = container.is_some_and(|c| {
                c.listens(now) || now < c.started_at + c.ran_ms + LAG_MS || c.sick_until > 0
            });
            // An agent that was stopped says first what it knew before.
            let woke = now < host.agent.frozen_until + LAG_MS;
            answers || stale || woke || !host.power || container.is_none()
        });
        u32::try_from(serving.count()).unwrap_or(u32::MAX)
    }

    /// 4: metrics take nothing away while the controller watches, or without samples.
    fn judge_targets(&self, commit: &Commit<'_>, found: &mut Vec<String>) {
        for (key, target) in adapter::targets(commit.after) {
            let was = adapter::target(commit.before, key);
            let Some(change) = adapter::last_change(commit.after, key) else {
                continue;
            };
            let by_metric = matches!(change.cause, ScaleCause::Metric { .. });
            let control = commit.cluster.view().desired.autoscale.get(key).cloned();
            let paused = control.and_then(|control| control.paused);
            let paused = paused
                .is_some_and(|pause| pause.until_ms.is_none_or(|until| until > commit.now_ms));
            if paused && by_metric && adapter::last_change(commit.before, key) != Some(change) {
                found.push(format!("{key}: scaled while its autoscaler is paused"));
            }
            if target >= was
                || change.to >= change.from
                || !by_metric
                || adapter::last_change(commit.before, key) == Some(change)
            {
                continue;
            }
            let usual = self.users.of(key).map(|service| &service.usual);
            if commit.observes_metrics(usual) {
                found.push(format!("{key}: scaled in while observing"));
            }
            let scaling = usual.and_then(|usual| usual.scaling.clone());
            let Some((signal, _)) = scaling else { continue };
            let (good, all) = match self.sources_elsewhere(commit, key, &signal) {
                Some(found) => found,
                None => sources(commit, key, signal.clone()),
            };
            let least = if signal.of_edges() { 100 } else { 80 };
            if good * 100 < all * least {
                found.push(format!("{key}: scaled in with samples of {good} of {all}"));
            }
        }
    }
}

/// Is a drain by force over? One that was ordered by the clock of another process, which was put
/// back since, has its time from the start of this one.
fn is_due(commit: &Commit<'_>, order: &DrainOrder) -> bool {
    let old = order.since_ms > commit.now_ms;
    let within_ms = order.deadline_ms - order.since_ms;
    let begun_ms = if old {
        commit.cluster.started_ms
    } else {
        order.since_ms
    };
    order.force && commit.now_ms >= begun_ms + within_ms
}

/// What a commit says about a replica.
fn follow(
    life: &mut Life,
    replica: &Replica,
    now_ms: u64,
    planner: &longshore_planner::PlannerConfig,
) {
    life.planned = true;
    life.traffic = replica.traffic;
    if let Some(leaving) = &replica.leaving {
        life.leaving = Some((leaving.reason.clone(), leaving.deadline_ms));
        let failed = matches!(leaving.reason, LeaveReason::Failed { .. });
        life.failed_ms = failed.then_some(leaving.since_ms);
        let late = now_ms >= leaving.deadline_ms.saturating_add(planner.park_grace_ms);
        life.over |= now_ms >= leaving.deadline_ms;
        // Sessions are cut when the deadline is over; a server that still takes requests is not
        // forgiven before the grace is over as well.
        life.pardon = Pardon {
            all: life.pardon.all || late || (life.over && replica.stop),
            edges: std::mem::take(&mut life.pardon.edges),
        };
    }
    life.stop |= replica.stop;
}

/// 4 and 5: lost only with witnesses, never while observing, never too many at once.
fn judge_lost(commit: &Commit<'_>, found: &mut Vec<String>) {
    let config = &commit.cluster.config.planner;
    let newly: Vec<_> = adapter::lost(commit.after)
        .filter(|(id, _)| !adapter::is_lost(commit.before, id))
        .collect();
    if newly.is_empty() {
        return;
    }
    for (id, _) in &newly {
        if commit.observing() {
            found.push(format!("{id} is declared lost while observing"));
        }
        let seen = adapter::node_seen(commit.observed, id);
        if seen.is_some_and(|seen| commit.alive(&seen.session)) {
            found.push(format!("{id} is declared lost while it answers"));
        }
        let reached = adapter::edges_seen(commit.observed).any(|(_, edge)| {
            let age = commit.now_ms.saturating_sub(edge.reported_ms);
            let fresh = commit.alive(&edge.session) && age <= config.edge_report_stale_ms;
            fresh && adapter::finds_well(edge, commit.before, id)
        });
        if reached {
            found.push(format!("{id} is declared lost while an edge reaches it"));
        }
    }
    let desired = &commit.cluster.view().desired;
    let (mut lost, mut all) = (0_u64, 0_u64);
    for (id, _) in desired.nodes.iter().filter(|(_, node)| node.roles.worker) {
        let at = adapter::lost(commit.after).find(|(lost, _)| *lost == id);
        match at {
            Some((_, at)) if commit.now_ms.saturating_sub(at) > config.outage_window_ms => {}
            at => (lost, all) = (lost + u64::from(at.is_some()), all + 1),
        }
    }
    if lost >= 2 && lost * 3 > all {
        found.push(format!("{lost} of {all} nodes are declared lost at once"));
    }
}

/// 9: the same input gives the same plan, and planning with the outcome changes nothing.
fn planned_once(commit: &Commit<'_>, memory: &Arc<Memory>) -> Vec<String> {
    let Commit {
        cluster,
        before,
        after,
        observed,
        now_ms,
    } = *commit;
    let mut found = Vec::new();
    let first = adapter::plan_again(cluster, now_ms, before, memory, observed);
    if *first.plan != **after {
        found.push("the same input gives another plan".to_owned());
        return found;
    }
    let again = adapter::plan_again(cluster, now_ms, &first.plan, &first.memory, observed);
    if again.plan != first.plan {
        let news = again.report.events;
        found.push(format!("planning again changes the plan: {news:?}"));
    } else if !again.report.events.is_empty() {
        let news = again.report.events;
        found.push(format!("planning again says {news:?}"));
    }
    found
}

/// Does a replica leave although it could go on serving?
fn is_by_choice(reason: &LeaveReason) -> bool {
    reason.is_exchange()
        || matches!(
            reason,
            LeaveReason::ScaleIn
                | LeaveReason::RolloutFailed { .. }
                | LeaveReason::Superseded { .. }
                | LeaveReason::NodeDrain
                | LeaveReason::Rebalanced
        )
}

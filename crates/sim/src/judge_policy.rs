//! Judges of counts: who may change one, where it must lie, and what a gate must have seen.

use longshore_model::autoscale::Signal;
use longshore_model::observe::CpuSample;
use longshore_model::plan::Replica;
use longshore_model::reason::ScaleCause;
use longshore_model::rollout::{Direction, Phase, Rollout};
use longshore_model::spec::FailureAction;
use longshore_model::{AutoscaleMode, Availability, NodeId, Plan, ReplicaState, ServiceKey};

use crate::adapter::{self, Wish};
use crate::each_node;
use crate::judge_limits::judge_given_back;
use crate::judge_plan::Commit;
use crate::truth::{Answered, Watch, Word};
use crate::users::Service;
use crate::world::World;

/// A count that may not be what it is becomes another within this.
const GRACE_MS: u64 = 1_500;

impl World {
    /// Hosts that run containers.
    #[must_use]
    pub(crate) fn workers(&self) -> u32 {
        let workers = self.hosts.iter().filter(|host| host.worker);
        u32::try_from(workers.count()).unwrap_or(u32::MAX)
    }

    /// Who may change a count, and what a gate lets pass.
    pub(crate) fn judge_policies(&mut self, commit: &Commit<'_>, found: &mut Vec<String>) {
        let services = self.users.services.iter();
        let up = services.filter_map(|service| Some((service.key.clone(), service.wish.clone()?)));
        for (key, wish) in up.collect::<Vec<_>>() {
            if wish.scaling.is_some() {
                self.judge_change(commit, &key, &wish, found);
            }
            if wish.policies.gate.is_some() {
                self.judge_gate(commit, &key, &wish, found);
            }
        }
    }

    /// Who shall only say, or ask first, changes no count but for a person's word. Each word is
    /// followed once.
    fn judge_change(
        &mut self,
        commit: &Commit<'_>,
        key: &ServiceKey,
        wish: &Wish,
        found: &mut Vec<String>,
    ) {
        let (was, is) = (
            adapter::target(commit.before, key),
            adapter::target(commit.after, key),
        );
        let new_life = commit.before.services.get(key).is_none_or(|_| was == 0);
        if was == is || new_life {
            return;
        }
        let desired = &commit.cluster.view().desired;
        let control = desired.autoscale.get(key);
        let bounds = wish.bounds(commit.now_ms, control);
        let (min, max) = bounds.unwrap_or((0, u32::MAX));
        let manual = desired.manual.get(key);
        let manual = manual.filter(|m| m.count == is || m.count.clamp(min, max) == is);
        let agreed = control.and_then(|control| control.approved.as_ref());
        let agreed = agreed.filter(|approval| approval.count == is);
        let words = [
            manual.map(|manual| (Word::Scale, manual.at_ms)),
            agreed.map(|approval| (Word::Agree, approval.at_ms)),
        ];
        let asks = wish.policies.mode == AutoscaleMode::Approve;
        // Where the clock was put back, a hold that was over is in force again, with its count.
        let held = manual.and_then(|manual| manual.hold_until_ms);
        let held = held.is_some_and(|until_ms| until_ms > commit.now_ms);
        let followed = &mut self.truth.followed;
        let mut words = words.into_iter().flatten();
        let by_word = words.any(|(word, at_ms)| {
            let mut first = || followed.insert((key.clone(), word, at_ms));
            match word {
                Word::Scale => first() || held,
                Word::Agree => asks && first(),
            }
        });
        if wish.policies.mode != AutoscaleMode::On && !by_word {
            found.push(format!("{key}: {was} becomes {is}, which nobody agreed to"));
        }
        let change = adapter::last_change(commit.after, key);
        let bound = change.is_some_and(|change| {
            matches!(
                change.cause,
                ScaleCause::Bounds { .. }
                    | ScaleCause::Schedule { .. }
                    | ScaleCause::Override { .. }
            )
        });
        if bound && is < was && is != max && wish.policies.gives_back {
            judge_given_back(self, commit, key, is, found);
        } else if bound && is < was && is != max {
            found.push(format!("{key}: {was} becomes {is}, the bound is {max}"));
        }
    }

    /// After each planning run: bounds hold, and a count that a person holds is that count.
    pub(crate) fn judge_counts(&mut self, commit: &Commit<'_>, found: &mut Vec<String>) {
        let services = self.users.services.iter();
        let off: Vec<(ServiceKey, Option<String>)> = services
            .map(|service| {
                let off = off(commit, service).or_else(|| each_node::off(self, commit, service));
                (service.key.clone(), off)
            })
            .collect();
        for (key, off) in off {
            let Some(what) = off else {
                self.truth.outside_bounds.remove(&key);
                continue;
            };
            let now = self.now;
            let since = *self.truth.outside_bounds.entry(key.clone()).or_insert(now);
            if since + GRACE_MS < now {
                found.push(format!("{key}: {what}"));
            }
        }
    }

    /// What must be so of a count after the calm.
    pub(crate) fn count_is_off(
        &self,
        plan: &Plan,
        service: &Service,
        wish: &Wish,
    ) -> Option<String> {
        let cluster = self.cluster().filter(|_| self.scenario.policies)?;
        let now_ms = cluster.now_ms();
        // Where a clock was put back, a hold or a pause may last for an hour.
        let desired = cluster.desired();
        let later = |until: Option<u64>| until.is_some_and(|until| until > now_ms);
        let control = desired.autoscale.get(&service.key);
        let (min, max) = wish.bounds(now_ms, control)?;
        let pause = control.and_then(|control| control.paused.as_ref());
        let manual = desired.manual.get(&service.key);
        if pause.is_some_and(|pause| later(pause.until_ms))
            || manual.is_some_and(|manual| later(manual.hold_until_ms))
        {
            return None;
        }
        let target = adapter::target(plan, &service.key);
        let asked = self.asked_from_outside(wish)?.clamp(min, max);
        (target != asked).then(|| format!("{}: {target}, {asked} are asked for", service.key))
    }

    /// Sources of a signal that edges or a Prometheus server give, and those that gave something
    /// of late; none: it is another signal.
    pub(crate) fn sources_elsewhere(
        &self,
        commit: &Commit<'_>,
        key: &ServiceKey,
        signal: &Signal,
    ) -> Option<(usize, usize)> {
        let config = &commit.cluster.config.planner;
        if let Signal::Prometheus(_) = signal {
            let heard = self.truth.outside.get(key);
            let lately = |at: &&u64| **at + config.external_stale_ms + 100 >= self.now;
            return Some((usize::from(heard.filter(lately).is_some()), 1));
        }
        if !signal.of_edges() {
            return None;
        }
        let view = commit.cluster.view();
        let edges = view.desired.nodes.values().filter(|node| node.roles.edge);
        let told = |id: &NodeId| {
            let seen = commit.observed.edges.get(id)?;
            let newest = seen.backends.get(key)?.samples.last()?;
            Some(newest.at_ms + config.sample_stale_ms >= commit.now_ms)
        };
        let (mut good, mut all) = (0, 0);
        for edge in edges {
            all += 1;
            good += usize::from(told(&edge.id).unwrap_or(false));
        }
        Some((good, all))
    }

    /// A batch of which HAProxy counted nothing but errors does not pass, where those that it
    /// replaces made none.
    fn judge_gate(
        &mut self,
        commit: &Commit<'_>,
        key: &ServiceKey,
        wish: &Wish,
        found: &mut Vec<String>,
    ) {
        let (Some(after), Some(gate)) = (adapter::rollout(commit.after, key), &wish.policies.gate)
        else {
            return;
        };
        let before = adapter::rollout(commit.before, key);
        let before = before.filter(|before| before.to == after.to);
        let passes = before.is_some_and(|before| before.open && !after.open)
            && after.phase != Phase::Failed
            && after.direction == Direction::Forward
            && after.from.is_some()
            && wish.failure_action != FailureAction::Continue;
        let watch = self.truth.watches.get(key);
        let watch = watch.filter(|watch| Some(watch.since_ms) == after.serving_since_ms);
        if let Some(watch) = watch.filter(|_| passes) {
            let sides = self.sides(commit, key, after, watch);
            let [(new, new_wrong), (old, old_wrong)] = sides;
            let enough = new >= gate.requests_min && old >= gate.requests_min;
            if enough && new == new_wrong && old_wrong == 0 {
                found.push(format!(
                    "{key}: a batch passes with {new_wrong} errors in {new} requests, of the old \
                     ones {old_wrong} in {old}"
                ));
            }
        }
        if let Some(since_ms) = after.serving_since_ms
            && before.is_none_or(|before| before.serving_since_ms != Some(since_ms))
        {
            let watch = self.watch_of(commit, key, since_ms);
            self.truth.watches.insert(key.clone(), watch);
        }
    }

    fn watch_of(&self, commit: &Commit<'_>, key: &ServiceKey, since_ms: u64) -> Watch {
        let mut watch = Watch {
            since_ms,
            since_at: self.now,
            ..Watch::default()
        };
        let edges = self.hosts.iter().enumerate().filter(|(_, host)| host.edge);
        for (number, host) in edges {
            let Some(seen) = commit.observed.edges.get(&host.id) else {
                continue;
            };
            let known = adapter::of_service(commit.after, key)
                .filter(|replica| seen.server(key, replica.id).is_some());
            let known = known.map(|replica| (number, host.haproxy.pid, replica.id));
            watch.known.extend(known);
        }
        watch
    }

    /// Was it counted, and could the controller know of it?
    fn is_told(&self, watch: &Watch, answer: &Answered) -> bool {
        let read_at = self.truth.read_at.get(&answer.edge).copied().unwrap_or(0);
        let known = (answer.edge, answer.pid, answer.replica);
        watch.known.contains(&known)
            && answer.began_at > watch.since_at
            && answer.at < read_at
            && self.hosts[answer.edge].haproxy.pid == answer.pid
    }

    /// Answers and errors of the new and of the old ones, as far as the controller can know.
    fn sides(
        &self,
        commit: &Commit<'_>,
        key: &ServiceKey,
        rollout: &Rollout,
        watch: &Watch,
    ) -> [(u64, u64); 2] {
        let mut sides = [(0, 0); 2];
        let stays = |answer: &Answered| -> Option<&Replica> {
            let replica = adapter::replica(commit.after, answer.replica)?;
            (replica.service == *key && replica.leaving.is_none()).then_some(replica)
        };
        for answer in &self.truth.answers {
            if !self.is_told(watch, answer) {
                continue;
            }
            if let Some(replica) = stays(answer) {
                let side = &mut sides[usize::from(replica.template != rollout.to)];
                side.0 += 1;
                side.1 += u64::from(answer.wrong);
            }
        }
        sides
    }
}

/// What is wrong with a count: it is not what a person holds, or lies outside of its bounds.
fn off(commit: &Commit<'_>, service: &Service) -> Option<String> {
    let (key, wish) = (&service.key, service.wish.as_ref()?);
    let view = commit.cluster.view();
    let control = view.desired.autoscale.get(key);
    let (min, max) = wish.bounds(commit.now_ms, control)?;
    // What was asked for is there.
    view.desired.service(key)?;
    commit.after.services.get(key)?;
    let target = adapter::target(commit.after, key);
    let later = |until: Option<u64>| until.is_some_and(|until| until > commit.now_ms);
    let manual = view.desired.manual.get(key);
    if let Some(manual) = manual.filter(|manual| later(manual.hold_until_ms)) {
        let count = manual.count;
        return (target != count).then(|| format!("{target}, {count} are held"));
    }
    let pause = control.and_then(|control| control.paused.as_ref());
    let paused = pause.is_some_and(|pause| pause.until_ms.is_none() || later(pause.until_ms));
    let acts = wish.policies.mode == AutoscaleMode::On && !paused;
    let inside = (min..=max).contains(&target);
    (acts && !inside).then(|| format!("{target} is not from {min} to {max}"))
}

/// Fewest that must serve while a change is made by choice.
pub(crate) fn floor(commit: &Commit<'_>, key: &ServiceKey, wish: &Wish) -> u32 {
    let target = adapter::target(commit.after, key);
    match wish.policies.per_node() {
        // Where each node is full, one must go before one comes.
        Some(each) => {
            let fit = hosts(commit, key).saturating_mul(each);
            wish.floor(target.min(fit)).saturating_sub(1)
        }
        None => wish.floor(target),
    }
}

/// Nodes that take one of a service, or have one.
fn hosts(commit: &Commit<'_>, key: &ServiceKey) -> u32 {
    let desired = &commit.cluster.view().desired;
    let hosts = desired.nodes.values().filter(|node| {
        let mut replicas = adapter::of_service(commit.before, key);
        let takes = node.roles.worker && node.availability == Availability::Active;
        takes || replicas.any(|r| r.node == node.id && r.leaving.is_none())
    });
    u32::try_from(hosts.count()).unwrap_or(u32::MAX)
}

/// Sources of a signal, and those with a sample that is a number and fresh. Only those that must
/// have one are counted.
pub(crate) fn sources(commit: &Commit<'_>, key: &ServiceKey, signal: Signal) -> (usize, usize) {
    let stale_ms = commit.cluster.config.planner.sample_stale_ms;
    let fresh = |samples: &[CpuSample]| {
        samples
            .iter()
            .any(|s| s.value.is_finite() && s.value >= 0.0 && s.at_ms + stale_ms >= commit.now_ms)
    };
    let mut count = (0, 0);
    if signal == Signal::Cpu {
        let stays = |r: &&Replica| r.leaving.is_none() && !adapter::is_lost(commit.after, &r.node);
        for replica in adapter::of_service(commit.before, key).filter(stays) {
            let seen = adapter::node_seen(commit.observed, &replica.node);
            let said = seen.and_then(|seen| seen.replicas.get(&replica.id));
            let Some(said) = said.filter(|s| s.state == ReplicaState::Healthy) else {
                continue;
            };
            let since = said
                .healthy_ms
                .or(said.started_ms)
                .unwrap_or(replica.created_ms);
            if since + 2_000 > commit.now_ms {
                continue;
            }
            count.1 += 1;
            count.0 += usize::from(
                seen.is_some_and(|seen| fresh(adapter::replica_samples(seen, replica.id))),
            );
        }
        return count;
    }
    let desired = &commit.cluster.view().desired;
    for node in desired.nodes.values().filter(|n| n.roles.worker) {
        let Some(seen) = adapter::node_seen(commit.observed, &node.id) else {
            continue;
        };
        // A node that is lost with this very commit is of the cluster no longer; one that takes
        // nothing new counts for what it has.
        let mut replicas = adapter::of_service(commit.before, key);
        let takes_part = node.availability == Availability::Active
            || replicas.any(|r| r.node == node.id && !r.paused);
        if !takes_part || adapter::is_lost(commit.after, &node.id) {
            continue;
        }
        count.1 += 1;
        count.0 += usize::from(fresh(adapter::node_samples(seen)) && commit.alive(&seen.session));
    }
    count
}

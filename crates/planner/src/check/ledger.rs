//! What the check remembers of the plan and the nodes that it looked at last: what each node
//! holds, and what it said of its replicas.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::observe::EngineState;
use longshore_model::plan::{Replica, ServicePlan};
use longshore_model::replica::ReplicaStatus;
use longshore_model::{NodeId, Plan, ReplicaId, ServiceKey, SharedMap, TimeMs};

use super::{AGAIN_EVERY_MS, Pair, Verdict, demand, session_ok};
use crate::config::PlannerConfig;
use crate::{Outcome, PlanInput};

type Statuses = Arc<BTreeMap<ReplicaId, ReplicaStatus>>;

/// What one node holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// Replicas there, by id.
    replicas: Vec<Arc<Replica>>,
    /// Their host ports, in order.
    ports: Vec<u16>,
    /// CPU reserved there.
    pub(super) cpu_milli: u128,
    /// Memory reserved there.
    pub(super) memory_bytes: u128,
}

/// What was found good.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    /// Nodes, in order.
    ids: Vec<NodeId>,
    /// By node: what it holds.
    held: Vec<Held>,
    /// By node: what it said last; none while it cannot speak.
    said: Vec<Option<Statuses>>,
    /// The plan that was found good last, and the one from which it was made.
    plan: Arc<Plan>,
    before: Arc<Plan>,
    now_ms: TimeMs,
    started_ms: TimeMs,
    /// When a turn was taken last, and the last service that had one.
    turn_ms: TimeMs,
    turn: Option<ServiceKey>,
    config: PlannerConfig,
}

impl Ledger {
    /// One that holds nothing yet.
    pub(super) fn new(input: &PlanInput<'_>) -> Self {
        let mut ledger = Self {
            ids: Vec::new(),
            held: Vec::new(),
            said: Vec::new(),
            plan: Arc::default(),
            before: Arc::default(),
            now_ms: input.now_ms,
            started_ms: input.started_ms,
            turn_ms: input.now_ms,
            turn: None,
            config: input.config.clone(),
        };
        ledger.heard_anew(input, &mut |_| {});
        ledger
    }

    /// Can a check build on it? Not on plans that it does not know: a plan that is in force is the
    /// one found good last, or, if that was not committed, the one before.
    pub(super) fn goes_on(&self, input: &PlanInput<'_>) -> bool {
        self.started_ms == input.started_ms
            && self.now_ms <= input.now_ms
            && self.config == *input.config
            && [&self.plan, &self.before]
                .iter()
                .any(|known| Arc::ptr_eq(known, input.current))
    }

    /// Services to be looked at again, whatever is remembered of them: so many that each has its
    /// turn once in [`AGAIN_EVERY_MS`], and no look stalls the loop.
    pub(super) fn turn<'a>(
        &mut self,
        now_ms: TimeMs,
        services: &'a SharedMap<ServiceKey, Arc<ServicePlan>>,
    ) -> Vec<&'a ServiceKey> {
        let age_ms = now_ms.saturating_sub(self.turn_ms).min(AGAIN_EVERY_MS);
        self.turn_ms = now_ms;
        let all = services.len();
        let share = (all as u64).saturating_mul(age_ms).div_ceil(AGAIN_EVERY_MS);
        let count = usize::try_from(share).unwrap_or(all);
        let rest = match &self.turn {
            Some(last) => services.after(last),
            None => services.iter(),
        };
        let round = rest.chain(services.iter()).map(|(key, _)| key);
        let keys: Vec<&ServiceKey> = round.take(count.min(all)).collect();
        if let Some(last) = keys.last() {
            self.turn = Some((*last).clone());
        }
        keys
    }

    /// The plan that was found good last.
    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Notes that the outcome was found good.
    pub(super) fn keep(&mut self, input: &PlanInput<'_>, outcome: &Outcome) {
        self.now_ms = input.now_ms;
        self.plan = Arc::clone(&outcome.plan);
        self.before = Arc::clone(input.current);
    }

    /// Calls `tell` with the services on nodes that say something else of their replicas than at
    /// the last check, or can speak again, or no more.
    pub(super) fn heard_anew(&mut self, input: &PlanInput<'_>, tell: &mut dyn FnMut(&ServiceKey)) {
        let mut at = 0;
        for (id, seen) in &input.observed.nodes {
            let mut order = Ordering::Greater;
            while let Some(known) = self.ids.get(at) {
                order = known.cmp(id);
                if order != Ordering::Less {
                    break;
                }
                self.says(at, None, tell);
                (at, order) = (at + 1, Ordering::Greater);
            }
            if order == Ordering::Greater {
                self.make_room(at, id);
            }
            let speaks = session_ok(input, &seen.session) && seen.engine == EngineState::Ok;
            self.says(at, speaks.then_some(&seen.replicas), tell);
            at += 1;
        }
        for at in at..self.ids.len() {
            self.says(at, None, tell);
        }
    }

    fn says(&mut self, number: usize, now: Option<&Statuses>, tell: &mut dyn FnMut(&ServiceKey)) {
        let said = &mut self.said[number];
        let same = match (&*said, now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if same {
            return;
        }
        let before = std::mem::replace(said, now.cloned());
        let state = |said: Option<&Statuses>, id| Some(said?.get(id)?.state);
        for replica in &self.held[number].replicas {
            if state(before.as_ref(), &replica.id) != state(now, &replica.id) {
                tell(&replica.service);
            }
        }
    }

    fn make_room(&mut self, number: usize, id: &NodeId) {
        self.ids.insert(number, id.clone());
        self.held.insert(number, Held::default());
        self.said.insert(number, None);
    }

    /// Puts what the services became in place of what they were in the plan `known` of the last
    /// check; what is the same was taken in then. Finds ports that are given twice.
    pub(super) fn take_in(&mut self, known: &Plan, pairs: &[Pair<'_>]) -> Verdict {
        let others = |pair: &&Pair<'_>| {
            let was = known.services.get(pair.key);
            !was.zip(pair.new)
                .is_some_and(|(was, now)| Arc::ptr_eq(was, now))
        };
        for pair in pairs.iter().filter(others) {
            let Some(service) = known.services.get(pair.key) else {
                continue;
            };
            for was in service.replicas.values() {
                if let Ok(number) = self.ids.binary_search(&was.node) {
                    self.held[number].remove(was, service);
                }
            }
        }
        for (service, now) in pairs
            .iter()
            .filter(others)
            .filter_map(|pair| pair.new)
            .flat_map(|service| service.replicas.values().map(move |now| (service, now)))
        {
            let number = self.ids.binary_search(&now.node).unwrap_or_else(|at| {
                self.make_room(at, &now.node);
                at
            });
            self.held[number].add(now, service)?;
        }
        Ok(())
    }

    /// What a node holds.
    pub(super) fn held(&self, node: &NodeId) -> Option<&Held> {
        Some(&self.held[self.ids.binary_search(node).ok()?])
    }
}

/// CPU and memory that a replica reserves.
fn reserves(service: &ServicePlan, replica: &Replica) -> (u128, u128) {
    let spec = service.templates.get(&replica.template);
    let spec = spec.filter(|_| replica.ended.is_none());
    spec.map_or((0, 0), |spec| {
        let cpu_milli = match replica.paused {
            true => 0,
            false => spec.resources.cpu_reserved_milli,
        };
        (
            cpu_milli.into(),
            spec.resources.memory_reserved_bytes.into(),
        )
    })
}

impl Held {
    fn add(&mut self, replica: &Arc<Replica>, service: &ServicePlan) -> Verdict {
        for port in &replica.ports {
            let at = self.ports.binary_search(&port.host_port);
            demand(at.is_err(), 8, || {
                format!("{}: port {} twice", replica.node, port.host_port)
            })?;
            let (Ok(at) | Err(at)) = at;
            self.ports.insert(at, port.host_port);
        }
        let at = self.replicas.partition_point(|known| known.id < replica.id);
        self.replicas.insert(at, Arc::clone(replica));
        let (cpu_milli, memory_bytes) = reserves(service, replica);
        self.cpu_milli += cpu_milli;
        self.memory_bytes += memory_bytes;
        Ok(())
    }

    fn remove(&mut self, replica: &Replica, service: &ServicePlan) {
        for port in &replica.ports {
            if let Ok(at) = self.ports.binary_search(&port.host_port) {
                self.ports.remove(at);
            }
        }
        if let Ok(at) = self.replicas.binary_search_by_key(&replica.id, |r| r.id) {
            self.replicas.remove(at);
        }
        let (cpu_milli, memory_bytes) = reserves(service, replica);
        self.cpu_milli = self.cpu_milli.saturating_sub(cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(memory_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use longshore_model::Observed;

    use super::*;

    /// All services have their turn in time, and no turn is much longer than the others.
    #[test]
    fn each_service_has_its_turn() {
        let (desired, plan, memory) = (Arc::default(), Arc::default(), Arc::default());
        let (observed, config) = (Observed::default(), PlannerConfig::default());
        let input = PlanInput {
            now_ms: 0,
            started_ms: 0,
            desired: &desired,
            current: &plan,
            memory: &memory,
            observed: &observed,
            config: &config,
        };
        for count in [0, 1, 7, 1_201] {
            let mut ledger = Ledger::new(&input);
            let key = |number: u32| format!("app/service{number}").parse().unwrap();
            let services = (0..count).map(|number| (key(number), Arc::default()));
            let services: SharedMap<ServiceKey, Arc<ServicePlan>> = services.collect();
            let mut seen = BTreeSet::new();
            for second in 1..=AGAIN_EVERY_MS / 1_000 {
                let keys = ledger.turn(second * 1_000, &services);
                assert!(keys.len() <= 3, "{} at once", keys.len());
                seen.extend(keys.into_iter().cloned());
            }
            assert!(services.keys().eq(&seen), "{} of {count}", seen.len());
        }
    }
}

//! HAProxy's own numbers as a judge of a batch: errors and response time of the new replicas
//! against the old ones', both since all the new ones serve.
//!
//! HAProxy keeps a response time per slot, a mean of the slot's last [`SAMPLES`] requests, whoever
//! held it: a replica that takes over a slot inherits the times of the one before. What was added
//! since the gate began is the difference of two such means ([`Times`]), known within bounds that
//! grow narrower with each request. The gate objects if the least that the new replicas may have
//! taken is too much beside the most that the old ones may have.
//!
//! # Caveats
//! - Few requests on a slot that had many before say little: the gate is milder then.
//! - Of a service with several ways in, the busiest one's response time counts for all.

use longshore_model::memory::GateMemory;
use longshore_model::observe::{ServerAnswers, ServerObserved};
use longshore_model::record::{GateLook, GateSide};
use longshore_model::rollout::Trouble;
use longshore_model::spec::GateSpec;
use longshore_model::{NodeId, ReplicaId, TemplateId};
use std::collections::BTreeMap;

use crate::draft::Draft;
use times::Times;

mod times;

/// While a gate looks, it looks so often: counters are no reason to look by themselves.
pub(crate) const LOOK_MS: u64 = 1_000;

/// Notes where the counters of all servers are.
pub(crate) fn begin(draft: &mut Draft<'_>, service: usize) {
    let key = draft.services[service].key.clone();
    let ids: Vec<ReplicaId> = draft
        .active(service)
        .into_iter()
        .map(|row| draft.rows[row].id)
        .collect();
    let edges = &draft.input.observed.edges;
    let base: BTreeMap<NodeId, BTreeMap<ReplicaId, ServerObserved>> = edges
        .iter()
        .map(|(edge, seen)| {
            let servers = ids.iter();
            let servers = servers.filter_map(|id| Some((*id, seen.server(&key, *id)?)));
            (edge.clone(), servers.collect())
        })
        .collect();
    let since_ms = draft.input.now_ms;
    draft.memory_mut(service).gate = Some(GateMemory { since_ms, base });
}

/// No batch is watched any more.
pub(crate) fn forget(draft: &mut Draft<'_>, service: usize) {
    if draft.memory(service).gate.is_some() {
        draft.memory_mut(service).gate = None;
    }
}

/// Adds what a server answered since `base`.
fn add(side: &mut GateSide, base: ServerObserved, now: ServerObserved) {
    // Counters that went back began again.
    let restarted = now.answers.requests_total < base.answers.requests_total;
    let base = match restarted {
        true => ServerObserved {
            sessions: 0,
            answers: ServerAnswers::default(),
            ..base
        },
        false => base,
    };
    let times = Times::between(&base, &now);
    side.least_ms = side.least_ms.saturating_add(times.least_ms);
    side.most_ms = side.most_ms.saturating_add(times.most_ms);
    let (base, now) = (base.answers, now.answers);
    let requests = now.requests_total - base.requests_total;
    side.requests = side.requests.saturating_add(requests);
    let errors = now.errors_total.saturating_sub(base.errors_total);
    side.errors = side.errors.saturating_add(errors);
}

/// Share of errors, thousandths, rounded up: one error in many is more than none.
fn error_permille(side: GateSide) -> u32 {
    let permille = side
        .errors
        .saturating_mul(1_000)
        .div_ceil(side.requests.max(1));
    u32::try_from(permille.min(1_000)).unwrap_or(1_000)
}

fn mean_ms(sum_ms: u64, side: GateSide) -> u32 {
    u32::try_from(sum_ms / side.requests.max(1)).unwrap_or(u32::MAX)
}

/// HAProxy's numbers of both sides since the gate began.
pub(crate) fn look(
    draft: &Draft<'_>,
    service: usize,
    to: &TemplateId,
    spec: &GateSpec,
) -> GateLook {
    let (mut new, mut old) = (GateSide::default(), GateSide::default());
    let memory = draft.memory(service).gate.as_ref();
    if let Some(memory) = memory {
        let key = &draft.services[service].key;
        for row in draft.active(service) {
            let id = draft.rows[row].id;
            let is_new = draft.replica(row).is_some_and(|r| r.template == *to);
            let side = if is_new { &mut new } else { &mut old };
            for (edge, seen) in &draft.input.observed.edges {
                let base = memory.base.get(edge).and_then(|base| base.get(&id));
                if let (Some(base), Some(now)) = (base, seen.server(key, id)) {
                    add(side, *base, now);
                }
            }
        }
    }
    GateLook {
        spec: spec.clone(),
        since_ms: memory.map(|memory| memory.since_ms),
        new,
        old,
    }
}

/// What HAProxy has against the new replicas, if anything. Too few requests on either side is no
/// opinion.
pub(crate) fn objection(look: &GateLook) -> Option<Trouble> {
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::GateIgnored) {
        return None;
    }
    let GateLook { spec, new, old, .. } = look;
    if new.requests < spec.requests_min || old.requests < spec.requests_min {
        return None;
    }
    errors(spec, *new, *old).or_else(|| latency(spec, *new, *old))
}

fn errors(gate: &GateSpec, new: GateSide, old: GateSide) -> Option<Trouble> {
    let increase_permille_max = gate.error_increase_permille_max?;
    let (new_permille, old_permille) = (error_permille(new), error_permille(old));
    let most = old_permille.saturating_add(increase_permille_max);
    (new_permille > most).then_some(Trouble::Errors {
        new_permille,
        old_permille,
        increase_permille_max,
        requests: new.requests,
    })
}

fn latency(gate: &GateSpec, new: GateSide, old: GateSide) -> Option<Trouble> {
    let ratio_permille_max = gate.latency_permille_max?;
    let (new_ms, old_ms) = (mean_ms(new.least_ms, new), mean_ms(old.most_ms, old));
    let most = u64::from(old_ms.max(1)).saturating_mul(ratio_permille_max.into());
    let slow = new_ms > gate.latency_ms_min && u64::from(new_ms).saturating_mul(1_000) > most;
    slow.then_some(Trouble::Latency {
        new_ms,
        old_ms,
        ratio_permille_max,
        requests: new.requests,
    })
}

//! Which services a check looks at.

use std::sync::Arc;

use longshore_model::plan::ServicePlan;
use longshore_model::{Plan, ServiceKey, SharedMap};

use super::Pair;
use super::ledger::Ledger;
use crate::{Outcome, PlanInput};

type Services = SharedMap<ServiceKey, Arc<ServicePlan>>;

/// Every service of either plan.
pub(super) fn everything<'a>(input: &PlanInput<'a>, outcome: &'a Outcome) -> Vec<Pair<'a>> {
    let (old, new) = (&input.current.services, &outcome.plan.services);
    let mut keys: Vec<&ServiceKey> = new.keys().collect();
    keys.extend(old.keys().filter(|key| !new.contains_key(*key)));
    pairs(keys, old, new)
}

/// Services that differ between the plan in force, the one that was checked last and the next
/// one, those of whose replicas something else is heard than at the last check, and those whose
/// turn it is to be looked at again.
///
/// Everything else was found good, and no rule can say otherwise of it: what the rules ask beside
/// these (edges, orders, time) they ask only of what changes.
pub(super) fn touched<'a>(
    ledger: &mut Ledger,
    known: &'a Arc<Plan>,
    input: &PlanInput<'a>,
    outcome: &'a Outcome,
) -> Vec<Pair<'a>> {
    let (current, next) = (input.current, &outcome.plan);
    let (old, new) = (&current.services, &next.services);
    let mut heard: Vec<ServiceKey> = Vec::new();
    ledger.heard_anew(input, &mut |key| heard.push(key.clone()));
    heard.sort_unstable();
    heard.dedup();
    let of_known = |key| known.services.get_key_value(key).map(|(key, _)| key);
    let mut keys: Vec<&ServiceKey> = heard.iter().filter_map(of_known).collect();
    if !Arc::ptr_eq(current, next) {
        old.differing(new, Arc::ptr_eq, |key| keys.push(key));
    }
    if !Arc::ptr_eq(current, known) && !Arc::ptr_eq(next, known) {
        let known = &known.services;
        known.differing(new, Arc::ptr_eq, |key| keys.push(key));
    }
    keys.extend(ledger.turn(input.now_ms, new));
    keys.sort_unstable();
    keys.dedup();
    pairs(keys, old, new)
}

fn pairs<'a>(keys: Vec<&'a ServiceKey>, old: &'a Services, new: &'a Services) -> Vec<Pair<'a>> {
    let pair = |key| Pair {
        key,
        old: old.get(key),
        new: new.get(key),
    };
    keys.into_iter().map(pair).collect()
}

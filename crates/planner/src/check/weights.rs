//! Weights by load.

use longshore_model::plan::Traffic;
use longshore_model::route::Weights;
use longshore_model::weight::{
    WEIGHT_FALL_MAX, WEIGHT_MAX, WEIGHT_MIN, WEIGHT_PERIOD_MS, WEIGHT_RISE_MAX,
};

use super::{Pair, Verdict, View, demand};

/// 3: no weight takes a replica out of the traffic, or changes faster than it may. 6: they are of
/// services that ask for them, and of replicas in their routes.
pub(super) fn stay_in_bounds(view: &View<'_>, pair: &Pair<'_>) -> Verdict {
    let Some((service, now)) = pair.new.and_then(|new| Some((new, new.weights.as_ref()?))) else {
        return Ok(());
    };
    if pair.same() {
        return Ok(());
    }
    let mut routes = service.routes.iter();
    demand(
        routes.any(|route| route.weights == Weights::Load),
        6,
        || format!("{} has weights, and nobody asks for them", pair.key),
    )?;
    let before = pair.old.and_then(|old| old.weights.as_ref());
    let waited = before.is_none_or(|before| {
        let since_ms = before.changed_ms.min(view.input.now_ms);
        view.input.now_ms - since_ms >= WEIGHT_PERIOD_MS || before.changed_ms > view.input.now_ms
    });
    for (id, &weight) in &now.weights {
        let fits = (WEIGHT_MIN..=WEIGHT_MAX).contains(&weight);
        demand(fits, 3, || format!("{id} weighs {weight}"))?;
        let replica = service.replicas.get(id);
        let routed = replica.is_some_and(|replica| replica.traffic != Traffic::Out);
        demand(routed, 6, || format!("{id} has a weight and no route"))?;
        let was = before.and_then(|before| before.weights.get(id));
        let Some(was) = was.map(|was| (*was).clamp(WEIGHT_MIN, WEIGHT_MAX)) else {
            continue;
        };
        let lowest = was.saturating_sub(WEIGHT_FALL_MAX);
        let bounded = weight >= lowest && weight <= was.saturating_add(WEIGHT_RISE_MAX);
        demand(weight == was || (bounded && waited), 3, || {
            format!("{id} weighed {was} and weighs {weight} so soon")
        })?;
    }
    Ok(())
}

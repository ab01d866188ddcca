//! How a rollout ends, and what a later failure goes back to.
//!
//! A way in that edges refuse, beside one by which the new replicas are reached, is said of a rollout
//! that ends and does not hold it up. Ways in are no part of what is rolled out: no other replica would
//! mend it, going back would exchange replicas for nothing, and waiting would lock the count, of a
//! service that serves, until somebody has another certificate.

use std::sync::Arc;

use longshore_model::rollout::{Direction, Good, Phase, RolloutNews};

use super::{change, enter, of, revision, say};
use crate::draft::{Draft, same_spec};
use crate::gate;

/// Every replica is new and was watched; or none is wanted, so that nothing is proved.
pub(super) fn finish(draft: &mut Draft<'_>, service: usize, proved: bool) -> bool {
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    let after_ms = draft.input.now_ms.saturating_sub(rollout.started_ms);
    let entry = draft.planned(service);
    let to_revision = entry
        .and_then(|entry| entry.good.as_ref())
        .map(|g| g.revision);
    let known = entry.is_some_and(|entry| {
        let good = entry.good.as_ref();
        good.is_some_and(|good| good.template == rollout.to)
    });
    let direction = rollout.direction;
    let news = match direction {
        Direction::Forward if proved || known => RolloutNews::Finished {
            after_ms,
            refused_by: draft.cluster.refused_by(&draft.services[service].key),
        },
        Direction::Forward => RolloutNews::Unproved {
            good_revision: to_revision.unwrap_or_default(),
        },
        Direction::Back => RolloutNews::RolledBack {
            to_revision: to_revision.unwrap_or_default(),
        },
    };
    enter(draft, service, Phase::Done);
    change(draft, service, |rollout| rollout.open = false);
    gate::forget(draft, service);
    say(draft, service, news);
    if proved && direction == Direction::Forward {
        set_good(draft, service);
    }
    true
}

/// What was proved may say other things of the service by now (routes, counts) without another
/// template: a later failure goes back to that.
pub(super) fn keep_good(draft: &mut Draft<'_>, service: usize) -> bool {
    let (Some(rollout), Some(spec)) = (of(draft, service), draft.services[service].spec) else {
        return false;
    };
    let forward = rollout.direction == Direction::Forward && rollout.phase == Phase::Done;
    let good = draft.planned(service).and_then(|entry| entry.good.as_ref());
    let good = good.filter(|good| good.template == rollout.to);
    let newer = good.is_some_and(|good| !same_spec(&good.spec, spec));
    if forward && newer {
        set_good(draft, service);
    }
    forward && newer
}

/// The first revision serves in full: whatever replaces it, even before it was monitored to the end,
/// may go back to it. Nothing else could serve then, of one that stops first not even what ran last.
pub(super) fn keep_first(draft: &mut Draft<'_>, service: usize) {
    let entry = draft.planned(service);
    let is_first = entry.is_some_and(|entry| {
        let from = entry.rollout.as_ref().map(|rollout| &rollout.from);
        entry.good.is_none() && entry.refused.is_none() && from == Some(&None)
    });
    if is_first {
        set_good(draft, service);
    }
}

/// What the rollout went to is what a later failure goes back to.
fn set_good(draft: &mut Draft<'_>, service: usize) {
    let (Some(rollout), Some(spec)) = (of(draft, service), draft.services[service].spec) else {
        return;
    };
    let good = Good {
        revision: revision(draft, service),
        template: rollout.to.clone(),
        spec: Arc::clone(spec),
    };
    draft.entry(service).good = Some(good);
}

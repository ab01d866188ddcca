//! What follows from a look at a rollout: a function of the look alone.

use longshore_model::record::{RolloutAnswer, RolloutRecord, RolloutStage, Setback};
use longshore_model::rollout::Trouble;
use longshore_model::spec::{FailureAction, UpdateOrder};

use crate::gate;

/// What follows from the look that a record holds. It must equal [`RolloutRecord::answer`].
#[must_use]
pub fn recompute_rollout(look: &RolloutRecord) -> RolloutAnswer {
    if look.stage == RolloutStage::Done {
        return RolloutAnswer::Reopens;
    }
    if let Some(why) = too_many_failed(look) {
        return RolloutAnswer::Fails { why };
    }
    if let Some(why) = set_back(look) {
        return RolloutAnswer::GoesOn { why };
    }
    if look.target == 0 && look.old == 0 {
        return RolloutAnswer::Finishes;
    }
    if let Some(job) = &look.job {
        let service = job.service.clone();
        return match job.failed.clone() {
            Some(why) => RolloutAnswer::Fails { why },
            None => RolloutAnswer::WaitsForJob { service },
        };
    }
    match (serves(look), look.serving_since_ms) {
        (false, Some(_)) => RolloutAnswer::Interrupted,
        (true, None) => RolloutAnswer::Watches,
        (true, Some(_)) if !knows_gate(look) => RolloutAnswer::Watches,
        (true, Some(since_ms)) => watched(look, since_ms),
        (false, None) if look.batches == 0 => {
            opens(look).unwrap_or(RolloutAnswer::WaitsForReplicas)
        }
        (false, None) => RolloutAnswer::WaitsForReplicas,
    }
}

/// All replicas of the new template that have room are there and serve.
fn serves(look: &RolloutRecord) -> bool {
    let there = look.new >= look.expected() || (look.no_room && (look.open || look.old == 0));
    look.new > 0 && there && look.serving == look.new
}

/// After a start of the controller it is not known where the gate began: it begins anew.
fn knows_gate(look: &RolloutRecord) -> bool {
    let gate = look.gate.as_ref().filter(|_| look.open);
    gate.is_none_or(|gate| gate.since_ms == look.serving_since_ms)
}

/// The file says: in spite of failures.
fn continues(look: &RolloutRecord) -> bool {
    look.terms.failure_action == FailureAction::Continue
}

/// More new replicas failed than the file bears, and it wants something done then.
fn too_many_failed(look: &RolloutRecord) -> Option<Trouble> {
    let runs = look.stage == RolloutStage::Running && !look.is_first;
    let bears = continues(look) || look.failed <= look.terms.tolerated(look.target);
    counted(look).filter(|_| runs && !bears)
}

/// The new replicas that failed, and how many may by now: more or fewer are wanted than at the
/// last failure.
fn counted(look: &RolloutRecord) -> Option<Trouble> {
    let mut why = look.trouble.clone()?;
    let Trouble::Replicas { tolerated, .. } = &mut why else {
        return None;
    };
    *tolerated = look.terms.tolerated(look.target);
    Some(why)
}

/// What just went wrong.
fn set_back(look: &RolloutRecord) -> Option<Trouble> {
    match look.setback? {
        Setback::Replica => counted(look),
        Setback::Gate => objection(look),
    }
}

/// What HAProxy's numbers say against the batch that is watched.
pub(super) fn objection(look: &RolloutRecord) -> Option<Trouble> {
    let watches = look.open && serves(look) && knows_gate(look);
    let gate = look.gate.as_ref().filter(|_| watches);
    gate.and_then(gate::objection)
}

/// All new replicas have served since then.
fn watched(look: &RolloutRecord, since_ms: u64) -> RolloutAnswer {
    let until_ms = since_ms.saturating_add(look.terms.monitor_ms);
    let objection = objection(look).filter(|_| !continues(look));
    match (objection, opens(look)) {
        (Some(why), _) => RolloutAnswer::Fails { why },
        (None, Some(opens)) => opens,
        (None, None) if until_ms > look.at_ms => RolloutAnswer::Monitors { until_ms },
        (None, None) if look.open => RolloutAnswer::Passes,
        (None, None) => RolloutAnswer::Finishes,
    }
}

/// The next batch, or what keeps it from beginning; none: one is open, or nothing is left to
/// replace.
fn opens(look: &RolloutRecord) -> Option<RolloutAnswer> {
    if look.open || look.old == 0 {
        return None;
    }
    if look.stage == RolloutStage::Held {
        return Some(RolloutAnswer::Holds);
    }
    let delay_ms = match look.batches {
        0 => 0,
        _ => look.terms.delay_ms,
    };
    let until_ms = look.passed_ms.map_or(0, |ms| ms.saturating_add(delay_ms));
    if until_ms > look.at_ms {
        return Some(RolloutAnswer::Delays { until_ms });
    }
    let forced = look.no_room && look.terms.order == UpdateOrder::Auto;
    let size = match forced {
        true => 1,
        false => look.terms.batch(look.target),
    };
    Some(RolloutAnswer::Opens {
        batch: look.batches.saturating_add(1),
        allowed: look.new.saturating_add(size),
        stop_first: forced || look.terms.order == UpdateOrder::StopFirst,
    })
}

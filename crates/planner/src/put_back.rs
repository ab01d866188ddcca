//! A clock that was put back: the plan outlives the process that noted its times, and the next one
//! may begin earlier than the one before ended. What was noted then counts from now on, so that
//! nothing waits for the clock to come there again: no wait is longer than its own length.
//!
//! # Caveats
//! Within one process the clock never runs backwards: a time ahead of now is of another one. One
//! that is not ahead any more cannot be told from the others, so that what began before the clock
//! was put back may take up to its length once more.

use longshore_model::TimeMs;
use longshore_model::node::DrainOrder;

use crate::PlanInput;
use crate::draft::Draft;
use crate::progress;

/// Puts right what the plan has of times to come.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        rollout(draft, service);
        approval(draft, service);
        weights(draft, service);
        for at in 0..draft.services[service].rows.len() {
            let row = draft.services[service].rows[at];
            leaving(draft, row);
        }
    }
}

/// The monitoring and the pause between batches begin anew.
fn rollout(draft: &mut Draft<'_>, service: usize) {
    let now_ms = draft.input.now_ms;
    let Some(rollout) = progress::of(draft, service) else {
        return;
    };
    let (started, serving, passed) = (
        rollout.started_ms.min(now_ms),
        rollout.serving_since_ms.map(|at_ms| at_ms.min(now_ms)),
        rollout.passed_ms.map(|at_ms| at_ms.min(now_ms)),
    );
    let as_noted = (started, serving, passed)
        == (
            rollout.started_ms,
            rollout.serving_since_ms,
            rollout.passed_ms,
        );
    if !as_noted {
        progress::change(draft, service, |rollout| {
            rollout.started_ms = started;
            rollout.serving_since_ms = serving;
            rollout.passed_ms = passed;
        });
    }
}

/// Nobody knows how long ago it was given: it is not obeyed any more.
fn approval(draft: &mut Draft<'_>, service: usize) {
    let controls = &draft.input.desired.autoscale;
    let control = controls.get(&draft.services[service].key);
    let Some(approval) = control.and_then(|control| control.approved.as_ref()) else {
        return;
    };
    let obeyed = draft.planned(service).map(|e| e.approval_obeyed_ms);
    if approval.at_ms > draft.input.now_ms && obeyed.is_some_and(|o| o != Some(approval.at_ms)) {
        draft.entry(service).approval_obeyed_ms = Some(approval.at_ms);
    }
}

/// The next change of weights waits for one period at most.
fn weights(draft: &mut Draft<'_>, service: usize) {
    let now_ms = draft.input.now_ms;
    let known = draft
        .planned(service)
        .and_then(|entry| entry.weights.as_ref());
    if known.is_some_and(|known| known.changed_ms > now_ms)
        && let Some(known) = &mut draft.entry(service).weights
    {
        known.changed_ms = now_ms;
    }
}

/// Its sessions get their time from now on.
fn leaving(draft: &mut Draft<'_>, row: usize) {
    let now_ms = draft.input.now_ms;
    let ahead = |since_ms: TimeMs| since_ms > now_ms;
    let leaving = draft.replica(row).and_then(|r| r.leaving.as_deref());
    if leaving.is_some_and(|leaving| ahead(leaving.since_ms))
        && let Some(leaving) = draft.replica_mut(row).and_then(|r| r.leaving.as_mut())
    {
        let drain_ms = leaving.deadline_ms.saturating_sub(leaving.since_ms);
        leaving.since_ms = now_ms;
        leaving.deadline_ms = now_ms.saturating_add(drain_ms);
    }
}

/// When a node's drain runs out of time. One that was ordered by a clock which was put back since
/// has its time from the start of this controller: it was ordered before that.
pub(crate) fn drain_deadline(input: &PlanInput<'_>, order: &DrainOrder) -> TimeMs {
    match order.since_ms > input.now_ms {
        true => {
            let within_ms = order.deadline_ms.saturating_sub(order.since_ms);
            input.started_ms.saturating_add(within_ms)
        }
        false => order.deadline_ms,
    }
}

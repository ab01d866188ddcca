//! When a rollout fails, and what its file wants done then.

use std::sync::Arc;

use longshore_model::reason::FailReason;
use longshore_model::record::RolloutAnswer;
use longshore_model::rollout::{Direction, Phase, Refused, RolloutNews, Trouble};
use longshore_model::spec::FailureAction;
use longshore_model::{Decision, EventKind};

use crate::draft::Draft;
use crate::progress::{self, change, enter, of, recompute_rollout, say, update};
use crate::record::note;

/// A new replica failed before its batch had passed.
pub(crate) fn count_failure(draft: &mut Draft<'_>, service: usize, row: usize, why: &FailReason) {
    let (Some(rollout), Some(replica)) = (of(draft, service), draft.replica(row)) else {
        return;
    };
    let since_ms = rollout.passed_ms.unwrap_or(rollout.started_ms);
    let unproven = replica.template == rollout.to && replica.created_ms >= since_ms;
    let going = matches!(rollout.phase, Phase::Running | Phase::Held { .. });
    let Some(spec) = draft.services[service].spec else {
        return;
    };
    if !(unproven && going) || rollout.from.is_none() {
        return;
    }
    let failed = rollout.failed.saturating_add(1);
    let trouble = Trouble::Replicas {
        failed,
        tolerated: update(draft, service, spec).tolerated(draft.target(service)),
        replica: replica.id,
        slot: replica.slot,
        node: replica.node.clone(),
        last: why.clone(),
    };
    change(draft, service, |rollout| {
        rollout.failed = failed;
        rollout.trouble = Some(trouble);
    });
}

/// Did too many new replicas fail?
pub(crate) fn judge(draft: &mut Draft<'_>, service: usize) -> bool {
    let (Some(rollout), Some(spec)) = (of(draft, service), draft.services[service].spec) else {
        return false;
    };
    let tolerated = update(draft, service, spec).tolerated(draft.target(service));
    let Some(why @ Trouble::Replicas { .. }) = rollout.trouble.clone() else {
        return false;
    };
    if !rollout.runs() || rollout.from.is_none() || rollout.failed <= tolerated {
        return false;
    }
    if let Some(mut look) = progress::look(draft, service) {
        look.answer = recompute_rollout(&look);
        if matches!(look.answer, RolloutAnswer::Fails { .. }) {
            note(draft, service, Decision::Rollout(Arc::new(look)));
        }
    }
    fail(draft, service, why)
}

/// What the file wants done when a rollout fails. True: something changed.
pub(crate) fn fail(draft: &mut Draft<'_>, service: usize, why: Trouble) -> bool {
    let (Some(rollout), Some(spec)) = (of(draft, service), draft.services[service].spec) else {
        return false;
    };
    let action = update(draft, service, spec).failure_action;
    let to = rollout.to.clone();
    if action == FailureAction::Continue {
        return go_on(draft, service, why);
    }
    let entry = draft.planned(service);
    let good = entry.and_then(|entry| entry.good.as_ref());
    let good = good.filter(|good| good.template != to && draft.has_good(service));
    let desired = draft.input.desired.service(&draft.services[service].key);
    if let (FailureAction::Rollback, Direction::Forward, Some(good), Some((_, spec))) =
        (action, rollout.direction, good, desired)
    {
        let to_revision = good.revision;
        let refused = Refused {
            revision: rollout.revision,
            spec: Arc::clone(spec),
            at_ms: draft.input.now_ms,
            why: why.clone(),
        };
        say(draft, service, RolloutNews::RollsBack { to_revision, why });
        let entry = draft.entry(service);
        entry.refused = Some(refused);
        entry.failures = None;
        draft.use_good(service);
    } else {
        change(draft, service, |rollout| {
            rollout.trouble = Some(why.clone());
        });
        enter(draft, service, Phase::Failed);
        say(draft, service, RolloutNews::Paused { why });
    }
    true
}

/// The file says: in spite of failures. Each is said once.
fn go_on(draft: &mut Draft<'_>, service: usize, why: Trouble) -> bool {
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    let before = draft.services[service].before;
    let before = before.and_then(|before| before.rollout.as_ref());
    let before = before.filter(|before| before.to == rollout.to);
    let known = match (&why, &rollout.trouble) {
        // Counted already; new since the run before?
        (Trouble::Replicas { .. }, _) => {
            before.is_some_and(|before| before.trouble.as_ref() == Some(&why))
                || continues(draft, service, &why)
        }
        // The numbers move with each look.
        (Trouble::Errors { .. }, Some(Trouble::Errors { .. }))
        | (Trouble::Latency { .. }, Some(Trouble::Latency { .. })) => true,
        _ => false,
    };
    if known {
        return false;
    }
    change(draft, service, |rollout| {
        rollout.trouble = Some(why.clone());
    });
    say(draft, service, RolloutNews::Continues { why });
    true
}

/// Was it said in this run already?
fn continues(draft: &Draft<'_>, service: usize, why: &Trouble) -> bool {
    let key = &draft.services[service].key;
    draft.report.events.iter().any(|event| match event {
        EventKind::Rollout {
            service,
            news: RolloutNews::Continues { why: said },
            ..
        } => service == key && said == why,
        _ => false,
    })
}

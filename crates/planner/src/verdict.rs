//! When a rollout fails, and what its file wants done then.

use std::sync::Arc;

use longshore_model::reason::FailReason;
use longshore_model::record::{RolloutAnswer, Setback};
use longshore_model::rollout::{
    Direction, PauseCause, Phase, Refused, Rollout, RolloutNews, Trouble,
};
use longshore_model::spec::FailureAction;
use longshore_model::{Decision, EventKind};

use crate::draft::Draft;
use crate::progress::{self, change, enter, has_way_back, of, recompute_rollout, say, update};
use crate::record::note;

/// Is it a new replica whose batch has not passed yet? Its failure speaks against the rollout, as
/// long as there is something else to run.
pub(crate) fn is_on_trial(draft: &Draft<'_>, service: usize, row: usize) -> bool {
    let (Some(rollout), Some(replica)) = (of(draft, service), draft.replica(row)) else {
        return false;
    };
    let since_ms = rollout.passed_ms.unwrap_or(rollout.started_ms);
    let unproven = replica.template == rollout.to && replica.created_ms >= since_ms;
    let going = matches!(rollout.phase, Phase::Running | Phase::Held { .. });
    // On the way back it is counted even where nothing else is left to run: to be said.
    let counts = rollout.direction == Direction::Back || has_way_back(draft, service);
    unproven && going && counts
}

/// A new replica failed before its batch had passed.
pub(crate) fn count_failure(draft: &mut Draft<'_>, service: usize, row: usize, why: &FailReason) {
    if !is_on_trial(draft, service, row) {
        return;
    }
    let (Some(rollout), Some(replica)) = (of(draft, service), draft.replica(row)) else {
        return;
    };
    let Some(spec) = draft.services[service].spec else {
        return;
    };
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

/// Did too many new replicas fail? As many as are tolerated are said once each.
pub(crate) fn judge(draft: &mut Draft<'_>, service: usize) -> bool {
    let (Some(rollout), Some(spec)) = (of(draft, service), draft.services[service].spec) else {
        return false;
    };
    if !rollout.runs() || rollout.failed == 0 || !has_way_back(draft, service) {
        return false;
    }
    let update = update(draft, service, spec);
    let too_many = rollout.failed > update.tolerated(draft.target(service));
    let fails = too_many && update.failure_action != FailureAction::Continue;
    if !fails && is_said(draft, service) {
        return false;
    }
    let Some(mut look) = progress::look(draft, service) else {
        return false;
    };
    look.setback = Some(Setback::Replica);
    look.answer = recompute_rollout(&look);
    let answer = look.answer.clone();
    if !matches!(
        answer,
        RolloutAnswer::Fails { .. } | RolloutAnswer::GoesOn { .. }
    ) {
        return false;
    }
    note(draft, service, Decision::Rollout(Arc::new(look)));
    match answer {
        RolloutAnswer::Fails { why } => fail(draft, service, why),
        RolloutAnswer::GoesOn { why } if too_many => {
            say(draft, service, RolloutNews::Continues { why });
            true
        }
        RolloutAnswer::GoesOn { why } => {
            say(draft, service, RolloutNews::Tolerates { why });
            true
        }
        _ => false,
    }
}

/// Was it said, in a run before or in this one, that it goes on in spite of as many failures?
fn is_said(draft: &Draft<'_>, service: usize) -> bool {
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    let before = draft.services[service].before;
    let before = before.and_then(|before| before.rollout.as_ref());
    // Where the clock was put back, the rollout begins now.
    let since_ms = |of: &Rollout| of.started_ms.min(draft.input.now_ms);
    let before = before.filter(|b| (&b.to, since_ms(b)) == (&rollout.to, since_ms(rollout)));
    let key = &draft.services[service].key;
    let of_this = |why: &Trouble| match why {
        Trouble::Replicas { failed, .. } => *failed == rollout.failed,
        _ => false,
    };
    before.is_some_and(|before| before.failed == rollout.failed)
        || draft.report.events.iter().any(|event| match event {
            EventKind::Rollout {
                service,
                news: RolloutNews::Continues { why } | RolloutNews::Tolerates { why },
                ..
            } => service == key && of_this(why),
            _ => false,
        })
}

/// What the file wants done when a rollout fails, other than to go on. True: something changed.
pub(crate) fn fail(draft: &mut Draft<'_>, service: usize, why: Trouble) -> bool {
    let (Some(rollout), Some(spec)) = (of(draft, service), draft.services[service].spec) else {
        return false;
    };
    let action = update(draft, service, spec).failure_action;
    let entry = draft.planned(service);
    let good = entry.and_then(|entry| entry.good.as_ref());
    let to_revision = good.map_or(0, |good| good.revision);
    let returns = good.is_some_and(|good| good.template != rollout.to && draft.has_good(service));
    let desired = draft.input.desired.service(&draft.services[service].key);
    if let (FailureAction::Rollback, Direction::Forward, true, Some((_, spec))) =
        (action, rollout.direction, returns, desired)
    {
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
        return true;
    }
    let cause = match (action, rollout.direction) {
        (_, Direction::Back) => PauseCause::WayBack { to_revision },
        (FailureAction::Rollback, _) => PauseCause::NothingWorked,
        _ => PauseCause::Asked,
    };
    change(draft, service, |rollout| {
        rollout.trouble = Some(why.clone());
        rollout.pause = cause;
    });
    enter(draft, service, Phase::Failed);
    say(draft, service, RolloutNews::Paused { why, cause });
    true
}

/// HAProxy's numbers speak against the rollout, and its file says: in spite of that. True: it was
/// not said before.
pub(crate) fn goes_on(draft: &mut Draft<'_>, service: usize, why: &Trouble) -> bool {
    let said = of(draft, service).and_then(|rollout| rollout.trouble.as_ref());
    // The numbers move with each look.
    let known = match (why, said) {
        (_, None) => false,
        (why, Some(said)) => std::mem::discriminant(why) == std::mem::discriminant(said),
    };
    if known {
        return false;
    }
    change(draft, service, |rollout| {
        rollout.trouble = Some(why.clone());
    });
    let why = why.clone();
    say(draft, service, RolloutNews::Continues { why });
    true
}

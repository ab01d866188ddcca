//! Failed and lost replicas: they serve nobody, so they leave at once; what replaces them waits
//! for a back-off.

use longshore_model::memory::FailedOn;
use longshore_model::plan::Failures;
use longshore_model::reason::{FailReason, LeaveReason};
use longshore_model::{EventKind, Reason};

use crate::draft::{Condition, Draft};
use crate::progress;
use crate::verdict;

/// Failed and lost replicas leave, before anything is decided about counts.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        end_if_put_back(draft, service);
        forgive(draft, service);
        // Of a job, they are tries.
        if draft.services[service]
            .spec
            .is_some_and(|spec| spec.job.is_some())
        {
            continue;
        }
        let staying = draft.staying(service);
        give_up_dead(draft, service, &staying);
    }
}

pub(crate) fn is_outdated(draft: &Draft<'_>, service: usize, row: usize) -> bool {
    let wanted = draft.services[service].template.as_ref();
    draft
        .replica(row)
        .is_some_and(|replica| Some(&replica.template) != wanted)
}

pub(crate) fn failures<'d>(draft: &'d Draft<'_>, service: usize) -> Option<&'d Failures> {
    draft.planned(service)?.failures.as_ref()
}

/// Forgets failures of templates no longer wanted, and of one that has proven itself since. True:
/// there were some.
pub(crate) fn forgive(draft: &mut Draft<'_>, service: usize) -> bool {
    let reset_ms = draft.input.config.backoff_reset_ms;
    let now_ms = draft.input.now_ms;
    let Some(failures) = failures(draft, service) else {
        return false;
    };
    let template = failures.template.clone();
    let calm_ms = failures.retry_at_ms.saturating_add(reset_ms);
    let calm = now_ms >= calm_ms;
    let other = draft.services[service].template.as_ref() != Some(&template);
    let of_template: Vec<usize> = draft
        .active(service)
        .into_iter()
        .filter(|&row| draft.replica(row).is_some_and(|r| r.template == template))
        .collect();
    // When the last of them will have proven itself, if all are healthy.
    let proven_ms = of_template.iter().try_fold(0, |latest: u64, &row| {
        let healthy_ms = draft.rows[row]
            .status
            .and_then(|status| status.healthy_ms)?;
        let healthy = draft.rows[row].condition == Condition::Healthy;
        healthy.then(|| latest.max(healthy_ms.saturating_add(reset_ms)))
    });
    let proven_ms = proven_ms.filter(|_| !of_template.is_empty());
    let proven = proven_ms.is_some_and(|at_ms| at_ms <= now_ms);
    if let Some(at_ms) = proven_ms {
        draft.look_again(service, at_ms.max(calm_ms));
    }
    let over = other || (calm && proven);
    if over {
        draft.entry(service).failures = None;
    }
    over
}

/// Failed and lost replicas leave at once.
fn give_up_dead(draft: &mut Draft<'_>, service: usize, active: &[usize]) {
    for &row in active {
        match draft.rows[row].condition.clone() {
            Condition::Failed(why) => {
                note_failure(draft, service, row, &why);
                draft.leave(row, LeaveReason::Failed { why });
            }
            Condition::Lost => draft.leave(row, LeaveReason::NodeLost),
            _ => {}
        }
    }
}

/// Says it, and counts it unless the replica had served long enough to call it proven.
pub(crate) fn note_failure(draft: &mut Draft<'_>, service: usize, row: usize, why: &FailReason) {
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let template = replica.template.clone();
    let node = replica.node.clone();
    let created_ms = replica.created_ms;
    let was_healthy = draft.rows[row].was_in
        || draft.rows[row]
            .status
            .is_some_and(|status| status.healthy_ms.is_some());
    let proven =
        was_healthy && now_ms.saturating_sub(replica.created_ms) >= config.backoff_reset_ms;
    let event = EventKind::Failed {
        service: replica.service.clone(),
        replica: replica.id,
        node: node.clone(),
        why: why.clone(),
    };
    draft.report.events.push(event);
    let memory = draft.memory_mut(service);
    let failed = FailedOn {
        at_ms: now_ms,
        template: template.clone(),
    };
    memory.failed_on.insert(node, failed);
    verdict::count_failure(draft, service, row, why);
    let stopped = progress::stopped(draft, service);
    // What follows an outdated one is another template, which has not failed.
    if proven || (is_outdated(draft, service, row) && !stopped) {
        return;
    }
    let entry = draft.entry(service);
    let same = |failures: &Failures| stopped || failures.template == template;
    let before = entry.failures.take().filter(same);
    let count = before
        .as_ref()
        .map_or(0, |failures| failures.count)
        .saturating_add(1);
    // One that fails after the others' pause is over would be followed at once: it pauses anew.
    let same_round = before
        .as_ref()
        .filter(|f| created_ms < f.retry_at_ms && now_ms < f.retry_at_ms);
    let (rounds, retry_at_ms) = match same_round {
        Some(failures) => (failures.rounds, failures.retry_at_ms),
        None => {
            let rounds = before
                .as_ref()
                .map_or(0, |failures| failures.rounds)
                .saturating_add(1);
            (rounds, now_ms.saturating_add(config.backoff_ms(rounds)))
        }
    };
    entry.failures = Some(Failures {
        template: before.map_or(template, |failures| failures.template),
        count,
        rounds,
        retry_at_ms,
        last: why.clone(),
    });
}

/// No pause is longer than the cap: one that would be was begun before the clock was put back. It
/// ends now.
fn end_if_put_back(draft: &mut Draft<'_>, service: usize) {
    let (now_ms, cap_ms) = (draft.input.now_ms, draft.input.config.backoff_cap_ms);
    let pause_ms = failures(draft, service).map_or(0, |f| f.retry_at_ms.saturating_sub(now_ms));
    if pause_ms > cap_ms
        && let Some(failures) = &mut draft.entry(service).failures
    {
        failures.retry_at_ms = now_ms;
    }
}

/// Must the next start wait for the back-off?
pub(crate) fn backs_off(draft: &mut Draft<'_>, service: usize, stopped: bool) -> bool {
    let wanted = draft.services[service].template.clone();
    let now_ms = draft.input.now_ms;
    let Some(failures) = failures(draft, service) else {
        return false;
    };
    let concerns = stopped || Some(&failures.template) == wanted.as_ref();
    if !concerns || failures.retry_at_ms <= now_ms {
        return false;
    }
    let (until_ms, last) = (failures.retry_at_ms, failures.last.clone());
    let reason = Reason::Backoff {
        failures: failures.count,
        until_ms,
        last,
    };
    draft.look_again(service, until_ms);
    draft.wait(service, reason);
    true
}

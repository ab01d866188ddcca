//! Jobs: services that run once until they end with 0, and those that wait for them.
//!
//! A run is known by its template (the model's `job` says what is part of it): each template is
//! run until it has completed or was tried as often as it may be, and then never again. A replica
//! is one try. One that has ended stays for its log, holds nothing, and is in no count. No second
//! try begins before the one before has ended, unless its node is lost: what a job does may be
//! done twice, never left out.
//!
//! A dependent's new template waits for the job as a held rollout does: what ran before goes on.

use longshore_model::depends::Until;
use longshore_model::job::{Ended, Job, JobEnd};
use longshore_model::node::Availability;
use longshore_model::reason::{FailReason, LeaveReason};
use longshore_model::record::JobLook;
use longshore_model::replica::ReplicaState;
use longshore_model::report::ScaleReport;
use longshore_model::rollout::{PauseCause, Phase, Trouble};
use longshore_model::{EventKind, Reason, ServiceKey, ServiceSpec};

use crate::draft::{Condition, Draft, held};
use crate::failures::{backs_off, note_failure};
use crate::place::{self, Order};
use crate::{depends, drains, progress};

/// Judges the tries of every job, before anything is decided about those that wait for one.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        match draft.services[service].spec {
            Some(spec) if spec.job.is_some() => {
                begin(draft, service);
                judge(draft, service, spec);
            }
            spec => forget(draft, service, spec.is_some()),
        }
    }
}

/// It is no job, or no longer there: nothing is left of what ended.
fn forget(draft: &mut Draft<'_>, service: usize, stays: bool) {
    let why = match stays {
        true => LeaveReason::Replaced,
        false => LeaveReason::Down,
    };
    for row in ended(draft, service) {
        draft.leave(row, why.clone());
    }
    if draft.planned(service).is_some_and(|e| e.job.is_some()) {
        draft.entry(service).job = None;
    }
}

/// Rows of replicas that have ended and do not leave.
fn ended(draft: &Draft<'_>, service: usize) -> Vec<usize> {
    let mut rows = draft.staying(service);
    rows.retain(|&row| draft.replica(row).is_some_and(|r| r.ended.is_some()));
    rows
}

/// Another template is another run, from the first try on.
fn begin(draft: &mut Draft<'_>, service: usize) {
    let Some(wanted) = draft.services[service].template.clone() else {
        return;
    };
    let job = draft.planned(service).and_then(|entry| entry.job.as_ref());
    if job.is_some_and(|job| job.template == wanted) {
        return;
    }
    let app = draft.services[service].app;
    let revision = app.map_or(0, |app| app.revision);
    let entry = draft.entry(service);
    entry.job = Some(Job::new(wanted, revision));
    entry.failures = None;
    // It may have been a service that stays up.
    (entry.rollout, entry.good, entry.refused) = (None, None, None);
}

/// What became of the tries.
fn judge(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) {
    let wanted = draft.services[service].template.clone();
    for row in draft.staying(service) {
        let Some(replica) = draft.replica(row) else {
            continue;
        };
        let (template, mut over) = (replica.template.clone(), replica.ended.is_some());
        if Some(&template) != wanted.as_ref() {
            draft.leave(row, LeaveReason::Replaced);
            continue;
        }
        if !over {
            over = ends(draft, service, row, spec);
        }
        if draft.rows[row].condition == Condition::Lost {
            draft.leave(row, LeaveReason::NodeLost);
        } else if over && is_sent_away(draft, row) {
            draft.leave(row, LeaveReason::NodeDrain);
        } else if !over && drains::is_forced(draft, row) {
            draft.leave(row, LeaveReason::NodeDrainForced);
        }
    }
}

/// Has a try ended by now?
fn ends(draft: &mut Draft<'_>, service: usize, row: usize, spec: &ServiceSpec) -> bool {
    if completed(draft, row) {
        complete(draft, service, row);
        return true;
    }
    let Condition::Failed(why) = draft.rows[row].condition.clone() else {
        return false;
    };
    fail(draft, service, row, spec, &why);
    true
}

/// Its node said so, be it the last thing that it said.
fn completed(draft: &Draft<'_>, row: usize) -> bool {
    let status = draft.rows[row].status;
    status.is_some_and(|status| status.state == ReplicaState::Completed)
}

/// Its node is drained: nothing stays there. What runs may end first.
fn is_sent_away(draft: &Draft<'_>, row: usize) -> bool {
    let number = draft.rows[row].node;
    number.is_some_and(|number| {
        draft.cluster.nodes[number].node.availability == Availability::Draining
    })
}

/// It has ended: from here on it holds nothing of its node, which keeps it for its log.
fn rest(draft: &mut Draft<'_>, row: usize, code: Option<i64>) {
    let held = draft
        .replica(row)
        .and_then(|replica| Some(held(draft.runs(row)?, replica)));
    if let (Some(number), Some(held)) = (draft.rows[row].node, held) {
        draft.cluster.held_mut(number).give_back(held);
        draft.cluster.pools.clear();
    }
    let at_ms = draft.input.now_ms;
    draft.touch_node(row);
    if let Some(replica) = draft.replica_mut(row) {
        replica.ended = Some(Ended { at_ms, code });
    }
}

fn complete(draft: &mut Draft<'_>, service: usize, row: usize) {
    rest(draft, row, Some(0));
    let at_ms = draft.input.now_ms;
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let (id, node, slot) = (replica.id, replica.node.clone(), replica.slot);
    let after_ms = at_ms.saturating_sub(replica.created_ms);
    let key = draft.services[service].key.clone();
    draft.report.events.push(EventKind::JobCompleted {
        service: key,
        slot,
        replica: id,
        node: node.clone(),
        after_ms,
    });
    let entry = draft.entry(service);
    entry.failures = None;
    if let Some(job) = &mut entry.job {
        job.replica = Some((id, node));
        job.end = Some(JobEnd {
            at_ms,
            completed: true,
        });
    }
}

fn fail(draft: &mut Draft<'_>, service: usize, row: usize, spec: &ServiceSpec, why: &FailReason) {
    note_failure(draft, service, row, why);
    let code = match why {
        FailReason::Exited { code, .. } => Some(*code),
        _ => None,
    };
    rest(draft, row, code);
    let at_ms = draft.input.now_ms;
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let of = (replica.id, replica.node.clone());
    let tries_max = spec.job.map_or(0, |job| job.tries_max);
    let Some(job) = &mut draft.entry(service).job else {
        return;
    };
    job.tries = job.tries.saturating_add(1);
    job.last = Some(why.clone());
    job.replica = Some(of);
    if tries_max == 0 || job.tries < tries_max {
        return;
    }
    let tries = job.tries;
    job.end = Some(JobEnd {
        at_ms,
        completed: false,
    });
    draft.report.events.push(EventKind::JobFailed {
        service: draft.services[service].key.clone(),
        tries,
        last: why.clone(),
    });
}

/// One as long as it is to run, none afterwards.
pub(crate) fn count(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) -> ScaleReport {
    let job = draft.planned(service).and_then(|entry| entry.job.as_ref());
    let wanted = u32::from(job.is_some_and(|job| job.end.is_none()));
    let entry = draft.planned(service);
    let as_wanted = entry.is_some_and(|entry| {
        entry.target == wanted && entry.drain_ms == spec.drain_ms && entry.routes.is_empty()
    });
    if !as_wanted {
        let entry = draft.entry(service);
        entry.target = wanted;
        entry.drain_ms = spec.drain_ms;
        // It may have been a service with ways in.
        if !entry.routes.is_empty() {
            entry.routes.clear();
            entry.ways_closed = true;
            draft.routes_dirty = true;
        }
    }
    ScaleReport {
        current: wanted,
        result: wanted,
        min: wanted,
        max: wanted,
        reasons: vec![Reason::Fixed],
        ..ScaleReport::default()
    }
}

/// Makes the next try, if one is due and the one before has ended.
pub(crate) fn start(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) {
    let job = draft.planned(service).and_then(|entry| entry.job.clone());
    let Some(job) = job else { return };
    if let (true, Some(last)) = (job.failed(), job.last.clone()) {
        let tries = job.tries;
        draft.wait(service, Reason::JobFailed { tries, last });
    }
    let over = job.end.is_some();
    #[cfg(feature = "mutants")]
    let over = over && !longshore_model::mutant::is(longshore_model::Mutant::JobRunsAgain);
    if over {
        return;
    }
    let template = job.template;
    // What leaves may still run.
    let mut others = draft.services[service].rows.iter().copied();
    let before = others.find_map(|row| {
        let replica = draft.replica(row)?;
        (replica.ended.is_none() && !draft.on_lost_node(row)).then_some(replica)
    });
    if let Some(before) = before {
        if before.leaving.is_some() {
            let replica = before.id;
            draft.wait(service, Reason::WaitsForEnd { replica });
        }
        return;
    }
    if depends::waits(draft, service) || backs_off(draft, service, false) {
        return;
    }
    for row in ended(draft, service) {
        draft.leave(row, LeaveReason::Replaced);
    }
    let order = Order {
        service,
        spec,
        count: 1,
        template,
    };
    place::place(draft, &order);
}

/// Where a job is; none: nobody waits for it, since it is not in the app, or stays up. One that
/// has not begun is as if it ran.
pub(crate) fn state(draft: &Draft<'_>, key: &ServiceKey) -> Option<Job> {
    let (app, spec) = draft.input.desired.service(key)?;
    spec.job?;
    let loaded = draft.services.binary_search_by(|slot| slot.key.cmp(key));
    // Of one that is not loaded nothing changes in this run.
    let (wanted, known) = match loaded {
        Ok(number) => (
            draft.services[number].template.clone()?,
            draft.planned(number)?.job.clone(),
        ),
        Err(_) => {
            let before = draft.input.current.services.get(key);
            let wanted = crate::draft::wanted_template(before, spec);
            (wanted, before.and_then(|before| before.job.clone()))
        }
    };
    let known = known.filter(|job| job.template == wanted);
    Some(known.unwrap_or_else(|| Job::new(wanted, app.revision)))
}

/// The job without whose end no replica of the service's wanted template may start: one that
/// failed, else the first that has not completed. A template of which replicas are there, or were
/// proved, is past that.
pub(crate) fn awaited(draft: &Draft<'_>, service: usize) -> Option<JobLook> {
    let slot = &draft.services[service];
    let (spec, wanted) = (slot.spec?, slot.template.as_ref()?);
    let good = draft.planned(service).and_then(|entry| entry.good.as_ref());
    if good.is_some_and(|good| good.template == *wanted) {
        return None;
    }
    let mut staying = slot.rows.iter().filter_map(|&row| draft.replica(row));
    if staying.any(|replica| replica.leaving.is_none() && replica.template == *wanted) {
        return None;
    }
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::JobNotAwaited) {
        return None;
    }
    look(draft, &slot.key, spec)
}

/// The job of those that a spec waits for that failed, else the first that has not completed.
fn look(draft: &Draft<'_>, key: &ServiceKey, spec: &ServiceSpec) -> Option<JobLook> {
    let jobs = spec.depends_on.iter();
    let jobs = jobs.filter(|(_, until)| **until == Until::Completed);
    let mut open = jobs.filter_map(|(on, _)| {
        let job = state(draft, &ServiceKey::new(key.app.clone(), on.clone()))?;
        let failed = job.failed().then(|| Trouble::Job {
            service: on.clone(),
            tries: job.tries,
            replica: job.replica.clone(),
            last: job.last.clone().unwrap_or(FailReason::Removed),
        });
        (!job.completed()).then(|| JobLook {
            service: on.clone(),
            failed,
        })
    });
    let first = open.next()?;
    match first.failed {
        Some(_) => Some(first),
        None => open.find(|look| look.failed.is_some()).or(Some(first)),
    }
}

/// A rollout that failed for a job goes on once the job is tried again. True: it does.
pub(crate) fn try_again(draft: &mut Draft<'_>, service: usize) -> bool {
    let of_job = |why: &Trouble| matches!(why, Trouble::Job { .. });
    let entry = draft.planned(service);
    let refused = entry.and_then(|entry| entry.refused.as_ref());
    let refused = refused.is_some_and(|refused| of_job(&refused.why));
    let rollout = progress::of(draft, service);
    let stopped = rollout.is_some_and(|rollout| {
        rollout.phase == Phase::Failed && rollout.trouble.as_ref().is_some_and(of_job)
    });
    if !refused && !stopped {
        return false;
    }
    let key = draft.services[service].key.clone();
    let Some((_, desired)) = draft.input.desired.service(&key) else {
        return false;
    };
    if look(draft, &key, desired).is_some_and(|look| look.failed.is_some()) {
        return false;
    }
    if refused {
        draft.entry(service).refused = None;
        draft.use_desired(service);
    }
    if stopped {
        progress::enter(draft, service, Phase::Running);
        progress::change(draft, service, |rollout| {
            (rollout.failed, rollout.trouble) = (0, None);
            rollout.pause = PauseCause::default();
            rollout.serving_since_ms = None;
        });
    }
    true
}

//! What jobs, and those that wait for them, must keep.

use std::sync::Arc;

use longshore_model::depends::Until;
use longshore_model::plan::Replica;
use longshore_model::replica::ReplicaState;
use longshore_model::{ServiceKey, ServiceSpec};

use super::terms::in_force;
use super::{Pair, Verdict, View, demand};

/// 10: a job is one try at a time, and over once it has ended; what waits for it starts only then.
pub(super) fn run_once(view: &View<'_>, pair: &Pair<'_>) -> Verdict {
    for now in pair.after() {
        ends_for_good(view, pair, now)?;
    }
    let mut fresh = pair.after().filter(|now| pair.was(now).is_none());
    let Some(spec) = in_force(view.input, pair) else {
        return Ok(());
    };
    if spec.job.is_some() {
        one_try(view, pair, spec)
    } else {
        fresh.try_for_each(|now| waited(view, pair, spec, now))
    }
}

/// What has ended stays so, and ends only by its node's word.
fn ends_for_good(view: &View<'_>, pair: &Pair<'_>, now: &Arc<Replica>) -> Verdict {
    let was = pair.was(now);
    let before = was.and_then(|was| was.ended);
    let kept = before.is_none() || before == now.ended;
    demand(kept, 10, || format!("{}: its end was taken back", now.id))?;
    let Some(ended) = now.ended.filter(|_| before.is_none()) else {
        return Ok(());
    };
    let node = view.input.observed.nodes.get(&now.node);
    let said = node.and_then(|node| node.replicas.get(&now.id));
    let said = said.map(|status| status.state);
    let heard = match ended.code {
        Some(0) => said == Some(ReplicaState::Completed),
        _ => said != Some(ReplicaState::Completed) && was.is_some(),
    };
    demand(heard, 10, || {
        format!("{} ended with {:?}, heard {said:?}", now.id, ended.code)
    })
}

/// A job that is over gets no further try, and no two run at the same time by the plan.
fn one_try(view: &View<'_>, pair: &Pair<'_>, spec: &ServiceSpec) -> Verdict {
    let is_fresh = |now: &&Arc<Replica>| pair.was(now).is_none();
    let Some(fresh) = pair.after().find(is_fresh) else {
        return Ok(());
    };
    let job = pair.old.and_then(|old| old.job.as_ref());
    let over = job.is_some_and(|job| job.template == fresh.template && job.end.is_some());
    demand(!over, 10, || format!("{} ran to its end already", pair.key))?;
    let wanted = fresh.template == spec.container.template_id();
    demand(wanted, 10, || format!("{} runs what is past", fresh.id))?;
    let runs = |now: &&Arc<Replica>| now.ended.is_none() && !view.on_dead_node(now);
    let tries = pair.after().filter(runs).count();
    demand(tries <= 1, 10, || {
        format!("{}: {tries} tries at a time", pair.key)
    })
}

/// A replica of a template that is neither proved nor there already starts after the jobs.
fn waited(view: &View<'_>, pair: &Pair<'_>, spec: &ServiceSpec, fresh: &Replica) -> Verdict {
    let jobs = spec.depends_on.iter();
    let mut jobs = jobs
        .filter(|(_, until)| **until == Until::Completed)
        .peekable();
    if jobs.peek().is_none() || fresh.template != spec.container.template_id() {
        return Ok(());
    }
    let good = pair.new.and_then(|new| new.good.as_ref());
    let proved = good.is_some_and(|good| good.template == fresh.template);
    let mut before = pair.before().filter(|was| was.leaving.is_none());
    if proved || before.any(|was| was.template == fresh.template) {
        return Ok(());
    }
    for (on, _) in jobs {
        let key = ServiceKey::new(pair.key.app.clone(), on.clone());
        let desired = view.input.desired.service(&key);
        let Some((_, on)) = desired.filter(|(_, on)| on.job.is_some()) else {
            continue;
        };
        let entry = view.outcome.plan.services.get(&key);
        let job = entry.and_then(|entry| entry.job.as_ref());
        let run = on.container.template_id();
        let done = job.is_some_and(|job| job.completed() && job.template == run);
        demand(done, 10, || {
            format!("{} starts before {key} has completed", fresh.id)
        })?;
    }
    Ok(())
}

//! What each service, and the cluster as a whole, must keep.

use std::sync::Arc;

use longshore_model::observe::{CheckState, EngineState, ServerAdmin};
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::ScaleCause;
use longshore_model::replica::ReplicaState;

use super::replicas::dead;
use super::terms::{Terms, in_force};
use super::{Pair, Verdict, View, demand, each_node, leads, places, session_ok};

/// All rules about one service as a whole, with the first replica that stays in the routes although
/// its health is in doubt.
pub(super) fn keep_serving(view: &View<'_>, pair: &Pair<'_>, sick: Option<&Replica>) -> Verdict {
    match in_force(view.input, pair).filter(|spec| spec.is_global()) {
        Some(spec) => each_node::keeps_serving(view, pair, spec)?,
        None => changes_keep_serving(view, pair)?,
    }
    sick_ones_stay_only_in_need(pair, sick)?;
    not_scaled_in_too_early(view, pair)
}

/// Healthy by its node's last word (or, where the node cannot speak or does not list it, reached
/// by an edge), in the routes, and sent requests by every connected edge. To be counted on (`surely`), a last word is
/// not enough where no edge could say otherwise.
pub(super) fn counts_as_serving(
    view: &View<'_>,
    pair: &Pair<'_>,
    replica: &Replica,
    surely: bool,
) -> bool {
    if replica.leaving.is_some() || replica.traffic != Traffic::Serve || view.lost(replica) {
        return false;
    }
    let mut answers = 0;
    let unseen = view.edges().is_empty() || !leads(pair.new, replica);
    let mut through = unseen;
    let (mut all, mut reached) = (true, false);
    for edge in view.edges().iter().filter(|edge| edge.connected) {
        let server = edge
            .seen
            .and_then(|seen| seen.server(&replica.service, replica.id));
        let takes = server.is_some_and(|server| {
            server.admin == ServerAdmin::Ready && server.check != CheckState::Down
        });
        reached |= server.is_some_and(|server| server.check == CheckState::Up);
        answers += 1;
        all &= takes;
    }
    through |= answers > 0 && all;
    let seen = view.input.observed.nodes.get(&replica.node);
    let said = seen
        .and_then(|seen| seen.replicas.get(&replica.id))
        .map(|status| status.state);
    let speaks = seen.is_some_and(|seen| {
        session_ok(view.input, &seen.session) && seen.engine == EngineState::Ok
    });
    let healthy = said == Some(ReplicaState::Healthy) && (speaks || !(unseen && surely));
    // What its node cannot tell, or does not tell yet, an edge can.
    let untold = !speaks || said.is_none();
    through && (healthy || (untold && reached))
}

/// 1: where a replica stays in the routes although its health is in doubt, no more than half of the
/// service is in there.
fn sick_ones_stay_only_in_need(pair: &Pair<'_>, sick: Option<&Replica>) -> Verdict {
    let Some(sick) = sick else { return Ok(()) };
    let stays = |now: &&Arc<Replica>| now.leaving.is_none() && now.traffic == Traffic::Serve;
    let serving = pair.after().filter(stays).count();
    // Judged by the count that was in force when the run began.
    let half = pair.old.map_or(0, |old| old.target).div_ceil(2).max(1);
    let fine = u32::try_from(serving).is_ok_and(|count| count <= half);
    demand(fine, 1, || {
        format!("{} is in doubt and stays among {serving}", sick.id)
    })
}

/// 3: what is given up by choice leaves enough that serves, and a replacement is there first.
fn changes_keep_serving(view: &View<'_>, pair: &Pair<'_>) -> Verdict {
    let replicas = || pair.after().filter(|now| !now.rests());
    let given: Vec<&Replica> = replicas()
        .filter(|now| {
            let was = pair.was(now);
            now.leaving
                .as_ref()
                .is_some_and(|leaving| !dead(&leaving.reason))
                && was.is_some_and(|was| was.leaving.is_none())
        })
        .map(|now| &**now)
        .collect();
    if given.is_empty() {
        return Ok(());
    }
    let Some(spec) = in_force(view.input, pair) else {
        return Ok(());
    };
    // A job serves nobody, and one try ends before the next begins.
    if spec.job.is_some() {
        return Ok(());
    }
    let terms = Terms::of(pair, spec);
    let (key, target) = (pair.key, pair.new.map_or(0, |service| service.target));
    let mut by_choice = given
        .iter()
        .filter(|now| !places::is_forced(now))
        .peekable();
    // An order to force comes whatever is missing, also where more is wanted than fits.
    let all_forced = by_choice.peek().is_none();
    let gave_serving = by_choice.any(|now| {
        let was = pair.was(now);
        was.is_some_and(|was| counts_as_serving(view, pair, was, false))
    });
    let after = replicas()
        .filter(|r| counts_as_serving(view, pair, r, true))
        .count();
    let forced = places::forced(view, spec, &given)?;
    let needed = terms.least_serving(target);
    demand(!gave_serving || after + forced >= needed, 3, || {
        format!("{key}: {after} serve after the change, {needed} must")
    })?;
    let staying = replicas().filter(|r| r.leaving.is_none()).count();
    let start_first = terms.starts_first && !all_forced;
    let shut_out = given.iter().filter(|r| places::is_shut_out(view, pair, r));
    let excused = forced + shut_out.count();
    let all_excused = excused == given.len();
    let enough = all_excused || staying + excused >= target as usize;
    demand(!start_first || enough, 3, || {
        format!("{key}: {staying} stay of {target}; a replacement must start first")
    })
}

/// 4: while the controller still watches, metrics take nothing away.
fn not_scaled_in_too_early(view: &View<'_>, pair: &Pair<'_>) -> Verdict {
    if pair.same() {
        return Ok(());
    }
    let input = view.input;
    let before = pair.old.and_then(|old| old.last_change.as_ref());
    let change = pair.new.and_then(|new| new.last_change.as_ref());
    let Some(change) = change.filter(|change| Some(*change) != before) else {
        return Ok(());
    };
    let by_metric = matches!(change.cause, ScaleCause::Metric { .. });
    let policy = in_force(input, pair).and_then(|spec| spec.autoscale.as_ref());
    let watch_ms = policy
        .map_or(0, |p| p.window_ms)
        .max(input.config.observe_ms);
    let watching = input.now_ms < input.started_ms.saturating_add(watch_ms);
    let fine = !(by_metric && watching && change.to < change.from);
    demand(fine, 4, || {
        format!("{}: scaled in while still observing", pair.key)
    })
}

/// 4: while the controller still watches, nobody is declared lost.
pub(super) fn patience(view: &View<'_>) -> Verdict {
    let (now, before) = (&view.outcome.plan.lost, &view.input.current.lost);
    let newly = now.keys().find(|node| !before.contains_key(*node));
    demand(!view.watches() || newly.is_none(), 4, || {
        format!("{newly:?} lost while still observing")
    })
}

/// 5: never more than the share is declared lost at once.
pub(super) fn brake(view: &View<'_>) -> Verdict {
    let (input, plan) = (view.input, &view.outcome.plan);
    let before = &input.current.lost;
    if plan.lost.keys().all(|node| before.contains_key(node)) {
        return Ok(());
    }
    let (mut lost, mut all) = (0_u64, 0_u64);
    for (id, node) in &input.desired.nodes {
        let at_ms = plan.lost.get(id).copied();
        let old =
            at_ms.is_some_and(|at| input.now_ms.saturating_sub(at) > input.config.outage_window_ms);
        if node.roles.worker && !old {
            all += 1;
            lost += u64::from(at_ms.is_some());
        }
    }
    let share = lost * u64::from(input.config.outage_denominator)
        > all * u64::from(input.config.outage_numerator);
    let few = lost < u64::from(input.config.outage_nodes_min);
    demand(few || !share, 5, || {
        format!("{lost} of {all} nodes declared lost at once")
    })
}

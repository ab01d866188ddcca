//! Services with one replica on each node: which nodes take one, and the count that follows.
//!
//! A node that is fit gets one at once. One that takes nothing new (cordoned, not connected, its
//! engine down) keeps the one that it has, until it is drained, lost, removed, or the file or its
//! labels say that it does not fit. What the count is follows from that alone: nobody can set it.

use longshore_model::node::Availability;
use longshore_model::reason::{EachNode, Refusal, RefusalCount, ScaleCause};
use longshore_model::report::{NodeState, ScaleReport};
use longshore_model::{Reason, ServiceSpec};

use crate::draft::Draft;
use crate::failures::is_outdated;
use crate::place::{fit_refusal, lasting_refusal};

/// By node number: why the node has no replica of the service; none: it has one, or gets it.
pub(crate) fn refusals(
    draft: &Draft<'_>,
    service: usize,
    spec: &ServiceSpec,
) -> Vec<Option<Refusal>> {
    let mut holds = vec![false; draft.cluster.nodes.len()];
    for row in draft.active(service) {
        if let Some(number) = draft.rows[row].node {
            holds[number] = true;
        }
    }
    let nodes = holds.into_iter().enumerate();
    nodes
        .map(|(number, holds)| refusal(draft, spec, number, holds))
        .collect()
}

fn refusal(draft: &Draft<'_>, spec: &ServiceSpec, number: usize, holds: bool) -> Option<Refusal> {
    let slot = &draft.cluster.nodes[number];
    let refused = fit_refusal(slot, &spec.placement, &spec.container)?;
    #[cfg(feature = "mutants")]
    if refused == Refusal::Draining
        && holds
        && longshore_model::mutant::is(longshore_model::Mutant::GlobalOutstaysDrain)
    {
        return None;
    }
    let takes_nothing_new = matches!(
        refused,
        Refusal::Cordoned
            | Refusal::Away
            | Refusal::EngineDown
            | Refusal::RuntimeStuck
            | Refusal::Flapping { .. }
            | Refusal::NoCapacity
    );
    if !(takes_nothing_new && holds) {
        return Some(refused);
    }
    // What a node that cannot speak is like, nobody knows: it is judged when it is back.
    let speaks =
        slot.state == NodeState::Ready && slot.seen.is_some_and(|seen| seen.capacity.cpu_milli > 0);
    let judged = || lasting_refusal(slot, &spec.placement, &spec.container);
    speaks.then(judged).flatten()
}

/// Decides the count and says what it follows from.
pub(crate) fn scale(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) -> ScaleReport {
    let each = each(draft, service, spec);
    let count = each.nodes;
    pass_over(draft, service);
    if draft.target(service) != count {
        draft.change_target(service, count, ScaleCause::Nodes);
    }
    ScaleReport {
        current: count,
        result: count,
        min: count,
        max: count,
        reasons: vec![Reason::EachNode(each)],
        ..ScaleReport::default()
    }
}

/// A count that somebody set before the service had none, or beside the door that refuses it, is
/// not for a later life as a service with a count either.
fn pass_over(draft: &mut Draft<'_>, service: usize) {
    let key = &draft.services[service].key;
    let manual = draft.input.desired.manual.get(key);
    let at_ms = manual.map(|manual| manual.at_ms);
    let obeyed = draft.planned(service).and_then(|e| e.manual_obeyed_ms);
    if at_ms.is_some() && at_ms != obeyed {
        let entry = draft.entry(service);
        entry.manual_obeyed_ms = at_ms;
        entry.manual_is_stale = true;
    }
}

/// How many nodes take the service, and why the other workers do not.
pub(crate) fn each(draft: &Draft<'_>, service: usize, spec: &ServiceSpec) -> EachNode {
    let most = draft.input.config.refusals_max;
    let mut nodes = 0_u32;
    let mut others = Vec::new();
    for (number, refused) in refusals(draft, service, spec).into_iter().enumerate() {
        match refused {
            None => nodes = nodes.saturating_add(1),
            Some(Refusal::NotWorker) => {}
            Some(why) => others.push((number, why)),
        }
    }
    let counts = RefusalCount::of(others.iter().map(|(_, why)| why), most);
    let named = |(number, why): (usize, Refusal)| (draft.cluster.nodes[number].id.clone(), why);
    EachNode {
        nodes,
        others: u32::try_from(others.len()).unwrap_or(u32::MAX),
        counts,
        refusals: others.into_iter().take(most).map(named).collect(),
    }
}

/// Is the row's replica of a global service, of an older template, and on a cordoned node? There
/// it stays as it is: a rollout neither exchanges nor waits for it, and goes on once the node takes
/// replicas again.
pub(crate) fn is_kept_old(draft: &Draft<'_>, row: usize) -> bool {
    let seen = &draft.rows[row];
    let spec = draft.services[seen.service].spec;
    let cordoned = || {
        let node = seen.node.map(|number| draft.cluster.nodes[number].node);
        node.is_some_and(|node| node.availability == Availability::Cordoned)
    };
    spec.is_some_and(|spec| spec.is_global()) && cordoned() && is_outdated(draft, seen.service, row)
}

/// The count that a rollout goes by: without what stays as it is on cordoned nodes.
pub(crate) fn rollout_target(draft: &Draft<'_>, service: usize) -> u32 {
    let target = draft.target(service);
    if !draft.services[service]
        .spec
        .is_some_and(|spec| spec.is_global())
    {
        return target;
    }
    let kept = draft.active(service).into_iter();
    let kept = kept.filter(|&row| is_kept_old(draft, row)).count();
    target.saturating_sub(u32::try_from(kept).unwrap_or(u32::MAX))
}

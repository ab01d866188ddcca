//! What the check knows of services with one replica on each node.

use std::sync::Arc;

use longshore_model::ServiceSpec;
use longshore_model::node::Availability;
use longshore_model::plan::Replica;
use longshore_model::reason::LeaveReason;

use super::nodes::suits_node;
use super::replicas::dead;
use super::services::counts_as_serving;
use super::terms::Terms;
use super::{Pair, Verdict, View, demand};

/// 3, by node: what is given up by choice is followed by one that serves on the same node, or it
/// stops first and enough others serve, or its node takes the service no longer. A node gets no
/// second one of the same template.
pub(super) fn keeps_serving(view: &View<'_>, pair: &Pair<'_>, spec: &ServiceSpec) -> Verdict {
    one_of_a_kind(pair)?;
    let terms = Terms::of(pair, spec);
    let target = pair.new.map_or(0, |service| service.target);
    let serving = |r: &&Arc<Replica>| counts_as_serving(view, pair, r, true);
    for now in pair.after().filter(|now| !now.paused) {
        let Some(leaving) = &now.leaving else {
            continue;
        };
        let was = pair.was(now).filter(|was| was.leaving.is_none());
        let Some(was) = was.filter(|_| !dead(&leaving.reason)) else {
            continue;
        };
        if must_go(view, spec, now, &leaving.reason)? || !counts_as_serving(view, pair, was, false)
        {
            continue;
        }
        let followed = pair.after().any(|r| r.node == now.node && serving(&r));
        let stops_first = || {
            let after = pair.after().filter(serving).count();
            !terms.starts_first && after >= terms.least_serving(target)
        };
        demand(followed || stops_first(), 3, || {
            format!(
                "{}: {} leaves {} and none serves there",
                pair.key, now.id, now.node
            )
        })?;
    }
    Ok(())
}

/// Does it leave because its node takes the service no longer? Then that must be so.
fn must_go(
    view: &View<'_>,
    spec: &ServiceSpec,
    now: &Replica,
    reason: &LeaveReason,
) -> Result<bool, super::Violation> {
    let claims = matches!(
        reason,
        LeaveReason::NodeDrain | LeaveReason::NodeUnfit { .. }
    );
    if !claims {
        return Ok(false);
    }
    let node = view.input.desired.nodes.get(&now.node);
    let takes = node.is_some_and(|node| {
        node.roles.worker
            && node.availability != Availability::Draining
            && suits_node(view.input, &now.node, &spec.placement, &spec.container)
    });
    demand(!takes, 8, || {
        format!("{} leaves {}, which takes it", now.id, now.node)
    })?;
    Ok(true)
}

/// 8: a replica that is new finds no other of its template on its node.
fn one_of_a_kind(pair: &Pair<'_>) -> Verdict {
    let fresh = pair.after().filter(|now| pair.was(now).is_none());
    for now in fresh {
        let mut others = pair.after().filter(|other| other.id != now.id);
        let twice = others.any(|other| {
            other.node == now.node
                && other.leaving.is_none()
                && !other.paused
                && other.template == now.template
        });
        demand(!twice, 8, || {
            format!("{}: two of a template on {}", pair.key, now.node)
        })?;
    }
    Ok(())
}

//! Invariant 6: versions and generations rise exactly with content.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::plan::Replica;
use longshore_model::{NodeId, Plan};

use super::{Pair, Verdict, View, demand};

/// 6: of the plan, the routes and every assignment.
pub(super) fn rise_with_content(view: &View<'_>) -> Verdict {
    let (old, new) = (view.input.current, &view.outcome.plan);
    if Arc::ptr_eq(old, new) {
        return Ok(());
    }
    let content = differs(view, old, new);
    if content || (new.version, new.parent) != (old.version, old.parent) {
        let next = old.version.checked_add(1);
        let follows = next == Some(new.version) && new.parent == old.version;
        demand(follows, 6, || {
            format!("version {} after {}", new.version, old.version)
        })?;
        demand(content, 6, || "a new version with nothing in it".to_owned())?;
    }
    let routes = view.changed().any(other_routes);
    let (before, now) = (old.routes_generation, new.routes_generation);
    demand(before.checked_add(routes.into()) == Some(now), 6, || {
        format!("routes {before} -> {now}, differs: {routes}")
    })?;
    assignments(view, old, new)
}

fn differs(view: &View<'_>, old: &Plan, new: &Plan) -> bool {
    old.next_replica != new.next_replica
        || old.routes_generation != new.routes_generation
        || old.lost != new.lost
        || old.flaps != new.flaps
        || old.homes != new.homes
        || old.former_homes != new.former_homes
        || !Arc::ptr_eq(&old.generations, &new.generations) && old.generations != new.generations
        || view.changed().any(|pair| pair.old != pair.new)
}

fn other_routes(pair: &Pair<'_>) -> bool {
    let servers = |service: Option<&Arc<longshore_model::plan::ServicePlan>>| {
        let backends = service.map(|service| service.backends(pair.key).collect::<Vec<_>>());
        let closed = service.is_some_and(|service| service.ways_closed);
        (backends.unwrap_or_default(), closed)
    };
    servers(pair.old) != servers(pair.new)
}

/// The generation of a node rises if what it must run differs, and only then.
fn assignments(view: &View<'_>, old: &Plan, new: &Plan) -> Verdict {
    let touched: BTreeSet<&NodeId> = view.changed().flat_map(other_assignments).collect();
    let generation = |plan: &Plan, node: &NodeId| plan.generations.get(node).copied().unwrap_or(0);
    let rises = |node: &NodeId, differs: bool| {
        let (before, now) = (generation(old, node), generation(new, node));
        demand(before.checked_add(differs.into()) == Some(now), 6, || {
            format!("{node}: assignment {before} -> {now}, differs: {differs}")
        })
    };
    for node in &touched {
        rises(node, true)?;
    }
    if Arc::ptr_eq(&old.generations, &new.generations) {
        return Ok(());
    }
    let mut verdict = Ok(());
    let (before, now) = (&old.generations, &new.generations);
    before.differing(now, PartialEq::eq, |node| {
        if verdict.is_ok() && !touched.contains(node) {
            verdict = rises(node, false);
        }
    });
    verdict
}

/// Nodes that must run something else of the service than before.
fn other_assignments<'a>(pair: &Pair<'a>) -> Vec<&'a NodeId> {
    let same = |a: &Arc<Replica>, b: &Arc<Replica>| {
        Arc::ptr_eq(a, b) || a.node == b.node && a.assigned() == b.assigned()
    };
    let mut nodes = Vec::new();
    for now in pair.after() {
        match pair.was(now) {
            Some(was) if same(was, now) => {}
            was => nodes.extend(was.map(|was| &was.node).into_iter().chain([&now.node])),
        }
    }
    let gone = pair.before().filter(|was| pair.now(was).is_none());
    nodes.extend(gone.map(|was| &was.node));
    nodes
}

//! Execute: everybody is sent what they have not acknowledged. Idempotent; agents drop what they
//! have already.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::{NodeId, Observed, Plan};

use super::names::Scene;
use crate::cluster::Cluster;
use crate::fleet::Link;

/// Sends assignments and routes where the generation differs, and once in each session: the
/// agent then also knows this controller's term.
pub(super) fn execute(cluster: &Cluster, observed: &Observed) {
    let view = cluster.view();
    send_certificates(cluster, observed);
    // Whoever is sent an assignment below has been told the names.
    let mut links = cluster.fleet.links();
    send_names(cluster, observed, &links);
    links.retain(|node, link| {
        let generation = view.plan.generations.get(node).copied().unwrap_or(0);
        generation > 0 && link.outbox.assignment_generation() != Some(generation)
            || wants_routes(&view.plan, observed, node, link)
    });
    if links.is_empty() {
        return;
    }
    let mut assignments = view.plan.assignments(links.keys());
    let mut routes = None;
    for (node, link) in &links {
        let generation = view.plan.generations.get(node).copied().unwrap_or(0);
        if generation > 0 && link.outbox.assignment_generation() != Some(generation) {
            link.outbox
                .assign(assignments.remove(node).unwrap_or_default());
        }
        if wants_routes(&view.plan, observed, node, link) {
            let routes = routes.get_or_insert_with(|| Arc::new(view.plan.routes()));
            link.outbox.route(Arc::clone(routes));
        }
    }
}

/// Tells workers names at once: a container that is made beside the plan uses them.
pub(crate) fn names_now(cluster: &Cluster) {
    send_names(cluster, &cluster.fleet.snapshot(), &cluster.fleet.links());
}

/// Sends certificates to edges, and to nobody else: all of them where one changed, and once in
/// each session. Before routes that name them.
fn send_certificates(cluster: &Cluster, observed: &Observed) {
    let secrets = cluster.secrets();
    if secrets.version == 0 {
        return;
    }
    for (node, link) in cluster.fleet.links() {
        if observed.edges.contains_key(&node)
            && link.outbox.certificates_version() != secrets.version
        {
            link.outbox.certify(Arc::clone(&secrets));
        }
    }
}

/// Tells workers what their containers reach by name, before they make containers that use it.
fn send_names(cluster: &Cluster, observed: &Observed, links: &BTreeMap<NodeId, Link>) {
    let (plan, desired) = (Arc::clone(&cluster.view().plan), cluster.desired());
    let scene = Scene {
        plan: &plan,
        desired: &desired,
        observed,
        revoked: &cluster.trust.revoked(),
        guests: &cluster.guests.apps(),
    };
    cluster.names(|directory| {
        let told = directory.look(&scene);
        for (node, link) in links {
            if let Some(names) = told.get(node) {
                link.outbox.name(names);
            }
        }
    });
    cluster.keep_said();
}

fn wants_routes(plan: &Plan, observed: &Observed, node: &NodeId, link: &Link) -> bool {
    plan.routes_generation > 0
        && observed.edges.contains_key(node)
        && link.outbox.routes_generation() != Some(plan.routes_generation)
}

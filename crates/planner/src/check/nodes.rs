//! Invariant 8: what nodes are given.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::node::Availability;
use longshore_model::observe::EngineState;
use longshore_model::plan::Replica;
use longshore_model::spec::{
    Constraint, ContainerSpec, NodeAttribute, PlacementSpec, Resources, arch_word,
};
use longshore_model::{NodeId, ServiceSpec};

use super::ledger::Ledger;
use super::terms::in_force;
use super::{Pair, Verdict, View, demand, session_ok};
use crate::PlanInput;

/// 8: capacity, ports, constraints and availability.
pub(super) fn hold_what_they_can(view: &View<'_>, ledger: &mut Ledger) -> Verdict {
    ledger.take_in(view.known, &view.pairs)?;
    let mut nodes: BTreeMap<&NodeId, Vec<(&Pair<'_>, &Replica)>> = BTreeMap::new();
    for pair in view.changed() {
        let fresh = pair.after().filter(|now| is_fresh(pair, now));
        for replica in fresh {
            let of_node = nodes.entry(&replica.node).or_default();
            of_node.push((pair, replica));
        }
    }
    for (node, fresh) in nodes {
        takes(view, ledger, node, &fresh)?;
        for (pair, replica) in fresh {
            if let Some(spec) = in_force(view.input, pair) {
                suits(view, pair, replica, spec)?;
            }
            ports_are_right(view, pair, replica)?;
        }
    }
    Ok(())
}

/// New on its node, or a standby that goes on: what a node must be able to take.
fn is_fresh(pair: &Pair<'_>, now: &Replica) -> bool {
    let was = pair.was(now);
    was.is_none_or(|was| was.paused && !now.paused && now.leaving.is_none())
}

/// May the node get anything, and does it have what that reserves?
fn takes(
    view: &View<'_>,
    ledger: &Ledger,
    node: &NodeId,
    fresh: &[(&Pair<'_>, &Replica)],
) -> Verdict {
    let desired = view.input.desired.nodes.get(node);
    let ready = desired.zip(view.input.observed.nodes.get(node));
    let Some(((desired, seen), held)) = ready.zip(ledger.held(node)) else {
        return demand(false, 8, || format!("{node} is not known"));
    };
    let takes = desired.roles.worker
        && desired.availability == Availability::Active
        && session_ok(view.input, &seen.session)
        && seen.engine == EngineState::Ok;
    demand(takes, 8, || format!("{node} takes nothing new"))?;
    let asks = |part: fn(&Resources) -> u64| {
        fresh.iter().any(|(pair, replica)| {
            template(pair, replica).is_some_and(|spec| part(&spec.resources) > 0)
        })
    };
    let (cpu, memory) = (seen.capacity.cpu_milli, seen.capacity.memory_bytes);
    let fits = (held.cpu_milli <= u128::from(cpu) || !asks(|r| r.cpu_reserved_milli))
        && (held.memory_bytes <= u128::from(memory) || !asks(|r| r.memory_reserved_bytes));
    demand(fits, 8, || format!("{node} reserves more than it has"))
}

fn template<'a>(pair: &Pair<'a>, replica: &Replica) -> Option<&'a ContainerSpec> {
    Some(&**pair.new?.templates.get(&replica.template)?)
}

/// Constraints, platform and the bound per node.
fn suits(view: &View<'_>, pair: &Pair<'_>, replica: &Replica, spec: &ServiceSpec) -> Verdict {
    let (input, node) = (view.input, &replica.node);
    let constraints = &spec.placement.constraints;
    let holds = constraints.iter().all(|c| constraint_holds(input, node, c));
    demand(holds, 8, || {
        format!("{} breaks a constraint on {node}", replica.id)
    })?;
    let fits = template(pair, replica).is_none_or(|t| runs_on(input, node, t));
    demand(fits, 8, || {
        format!(
            "{} has an image for another platform than {node}",
            replica.id
        )
    })?;
    let capacity = input.observed.nodes.get(node).map(|seen| &seen.capacity);
    let missing = template(pair, replica)
        .zip(capacity)
        .and_then(|(t, c)| c.lacks(t.external_volumes()));
    demand(missing.is_none(), 8, || {
        format!(
            "{} is placed on {node}, which lacks {missing:?}",
            replica.id
        )
    })?;
    let max = spec.placement.max_per_node as usize;
    if max == 0 {
        return Ok(());
    }
    let here = |r: &&Arc<Replica>| r.node == *node && r.leaving.is_none();
    let there = pair.after().filter(here).count();
    demand(there <= max, 8, || {
        format!("{}: {there} on {node}, at most {max} may", replica.service)
    })
}

/// The certain host port where the template names one, else one of the range.
fn ports_are_right(view: &View<'_>, pair: &Pair<'_>, replica: &Replica) -> Verdict {
    let template = template(pair, replica);
    let range = view.input.config.port_min..=view.input.config.port_max;
    let right = replica.ports.iter().all(|port| {
        let fixed = template.and_then(|t| t.fixed_ports.get(&port.container_port));
        fixed.map_or_else(|| range.contains(&port.host_port), |f| *f == port.host_port)
    });
    demand(right, 8, || {
        format!("{} has a port that it may not have", replica.id)
    })
}

/// Do the constraints hold on the node, and does the image run there?
pub(super) fn suits_node(
    input: &PlanInput<'_>,
    node: &NodeId,
    placement: &PlacementSpec,
    container: &ContainerSpec,
) -> bool {
    let mut constraints = placement.constraints.iter();
    constraints.all(|c| constraint_holds(input, node, c)) && runs_on(input, node, container)
}

/// Is the image for the node's platform?
fn runs_on(input: &PlanInput<'_>, node: &NodeId, container: &ContainerSpec) -> bool {
    let capacity = input.observed.nodes.get(node).map(|seen| &seen.capacity);
    let platform = container.platform.as_ref().zip(capacity);
    platform.is_none_or(|(p, c)| {
        p.os.eq_ignore_ascii_case(&c.os)
            && arch_word(&p.arch) == arch_word(&c.arch.to_ascii_lowercase())
    })
}

fn constraint_holds(input: &PlanInput<'_>, id: &NodeId, constraint: &Constraint) -> bool {
    let Some(node) = input.desired.nodes.get(id) else {
        return false;
    };
    let capacity = input.observed.nodes.get(id).map(|seen| &seen.capacity);
    let label = |labels: &BTreeMap<String, String>, key: &String| labels.get(key).cloned();
    let found = match &constraint.attribute {
        NodeAttribute::Id | NodeAttribute::Hostname => Some(id.to_string()),
        NodeAttribute::Role => {
            let wanted = constraint.value.to_lowercase();
            let has =
                (wanted == "worker" && node.roles.worker) || (wanted == "edge" && node.roles.edge);
            return has == constraint.equal;
        }
        NodeAttribute::Os => capacity.map(|c| c.os.clone()),
        NodeAttribute::Arch => capacity.map(|c| arch_word(&c.arch.to_lowercase()).to_owned()),
        NodeAttribute::Label(key) => label(&node.labels, key),
        NodeAttribute::EngineLabel(key) => capacity.and_then(|c| label(&c.engine_labels, key)),
    };
    let wanted = constraint.value.to_lowercase();
    let wanted = match constraint.attribute {
        NodeAttribute::Arch => arch_word(&wanted),
        _ => &wanted,
    };
    (found.unwrap_or_default().to_lowercase() == wanted) == constraint.equal
}

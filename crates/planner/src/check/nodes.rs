//! Invariant 8: what nodes are given.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::node::Availability;
use longshore_model::observe::EngineState;
use longshore_model::plan::Replica;
use longshore_model::spec::{Constraint, NodeAttribute, arch_word};
use longshore_model::{NodeId, ServiceSpec};

use super::{Verdict, demand, same_in, session_ok};
use crate::{Outcome, PlanInput};

/// 8: capacity, ports, constraints and availability.
pub(super) fn hold_what_they_can(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    #[derive(Default)]
    struct Use<'a> {
        cpu_milli: u64,
        memory_bytes: u64,
        ports: BTreeSet<u16>,
        fresh: Vec<&'a Replica>,
    }
    let mut nodes: BTreeMap<&NodeId, Use<'_>> = BTreeMap::new();
    for replica in outcome.plan.replicas() {
        let used = nodes.entry(&replica.node).or_default();
        if let Some(spec) = outcome.plan.template(replica) {
            let cpu_milli = spec.resources.cpu_reserved_milli;
            used.cpu_milli += if replica.paused { 0 } else { cpu_milli };
            used.memory_bytes += spec.resources.memory_reserved_bytes;
        }
        for port in &replica.ports {
            let free = used.ports.insert(port.host_port);
            demand(free, 8, || {
                format!("{}: port {} twice", replica.node, port.host_port)
            })?;
        }
        let was = same_in(input.current, replica);
        if was.is_none_or(|was| was.paused && !replica.paused && replica.leaving.is_none()) {
            used.fresh.push(replica);
        }
    }
    for (node, used) in nodes.into_iter().filter(|(_, used)| !used.fresh.is_empty()) {
        let ready = input
            .desired
            .nodes
            .get(node)
            .zip(input.observed.nodes.get(node));
        let Some((desired, seen)) = ready else {
            return demand(false, 8, || format!("{node} is not known"));
        };
        let takes = desired.roles.worker
            && desired.availability == Availability::Active
            && session_ok(input, &seen.session)
            && seen.engine == EngineState::Ok;
        demand(takes, 8, || format!("{node} takes nothing new"))?;
        let fits = used.cpu_milli <= seen.capacity.cpu_milli
            || used.fresh.iter().all(|r| reserves(outcome, r).0 == 0);
        let fits = fits
            && (used.memory_bytes <= seen.capacity.memory_bytes
                || used.fresh.iter().all(|r| reserves(outcome, r).1 == 0));
        demand(fits, 8, || format!("{node} reserves more than it has"))?;
        for replica in used.fresh {
            if let Some(spec) = super::in_force(input, outcome, &replica.service) {
                suits(input, outcome, replica, spec)?;
            }
            ports_are_right(input, outcome, replica)?;
        }
    }
    Ok(())
}

/// Constraints, platform and the bound per node.
fn suits(
    input: &PlanInput<'_>,
    outcome: &Outcome,
    replica: &Replica,
    spec: &ServiceSpec,
) -> Verdict {
    let node = &replica.node;
    let constraints = &spec.placement.constraints;
    let holds = constraints.iter().all(|c| constraint_holds(input, node, c));
    demand(holds, 8, || {
        format!("{} breaks a constraint on {node}", replica.id)
    })?;
    let capacity = input.observed.nodes.get(node).map(|seen| &seen.capacity);
    let platform = outcome
        .plan
        .template(replica)
        .and_then(|t| t.platform.as_ref());
    let fits = platform.zip(capacity).is_none_or(|(p, c)| {
        p.os.eq_ignore_ascii_case(&c.os)
            && arch_word(&p.arch) == arch_word(&c.arch.to_ascii_lowercase())
    });
    demand(fits, 8, || {
        format!(
            "{} has an image for another platform than {node}",
            replica.id
        )
    })?;
    let max = spec.placement.max_per_node as usize;
    let there = outcome
        .plan
        .services
        .get(&replica.service)
        .map_or(0, |service| {
            let replicas = service.replicas.values();
            replicas
                .filter(|r| r.node == *node && r.leaving.is_none())
                .count()
        });
    demand(max == 0 || there <= max, 8, || {
        format!("{}: {there} on {node}, at most {max} may", replica.service)
    })
}

/// The certain host port where the template names one, else one of the range.
fn ports_are_right(input: &PlanInput<'_>, outcome: &Outcome, replica: &Replica) -> Verdict {
    let template = outcome.plan.template(replica);
    let range = input.config.port_min..=input.config.port_max;
    let right = replica.ports.iter().all(|port| {
        let fixed = template.and_then(|t| t.fixed_ports.get(&port.container_port));
        fixed.map_or_else(|| range.contains(&port.host_port), |f| *f == port.host_port)
    });
    demand(right, 8, || {
        format!("{} has a port that it may not have", replica.id)
    })
}

fn reserves(outcome: &Outcome, replica: &Replica) -> (u64, u64) {
    let spec = outcome.plan.template(replica);
    spec.map_or((0, 0), |s| {
        (
            s.resources.cpu_reserved_milli,
            s.resources.memory_reserved_bytes,
        )
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

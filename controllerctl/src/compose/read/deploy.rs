//! `deploy`: how many, where, and how one revision follows another.

use longshore_model::spec::{Constraint, ContainerSpec, NodeAttribute, PlacementSpec, UpdateSpec};

use super::super::problem::Problems;
use super::item::Item;
use super::{keys, update};

/// Most replicas that a file may ask for.
pub(super) const REPLICAS_MAX: u32 = 100_000;
/// Most constraints, as the wire allows.
const CONSTRAINTS_MAX: usize = 64;

/// `deploy` without the resources, which go into the container.
#[derive(Debug, Default)]
pub(super) struct Deploy {
    pub(super) replicas: Option<u32>,
    pub(super) placement: PlacementSpec,
    pub(super) update: UpdateSpec,
    pub(super) rollback: Option<UpdateSpec>,
}

pub(super) fn read(item: Option<Item<'_>>, spec: &mut ContainerSpec, p: &mut Problems) -> Deploy {
    let mut deploy = Deploy::default();
    let Some(mut fields) = item.and_then(|item| item.fields(p)) else {
        return deploy;
    };
    deploy.replicas = fields
        .take("replicas")
        .and_then(|i| i.number(p, 0, REPLICAS_MAX));
    if let Some(i) = fields.take("mode")
        && i.text(p) != Some("replicated")
    {
        i.invalid(p, "only mode replicated is supported");
    }
    if let Some(i) = fields.take("resources") {
        resources(&i, spec, p);
    }
    if let Some(i) = fields.take("placement") {
        deploy.placement = placement(&i, p).unwrap_or_default();
    }
    if let Some(i) = fields.take("update_config") {
        deploy.update = update::update(&i, p).unwrap_or_default();
    }
    deploy.rollback = fields
        .take("rollback_config")
        .and_then(|i| update::rollback(&i, p));
    if let Some(i) = fields.take("restart_policy") {
        update::restart_policy(&i, p);
    }
    fields.finish(p, keys::DEPLOY);
    deploy
}

fn resources(item: &Item<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
    let Some(mut fields) = item.fields(p) else {
        return;
    };
    let mut side = |name, p: &mut Problems| -> (u64, u64) {
        let item: Option<Item<'_>> = fields.take(name);
        let Some(mut fields) = item.and_then(|i| i.fields(p)) else {
            return (0, 0);
        };
        let cpus = fields
            .take("cpus")
            .and_then(|i| i.cpu_milli(p))
            .unwrap_or(0);
        let memory = fields.take("memory").and_then(|i| i.bytes(p)).unwrap_or(0);
        fields.finish(p, keys::RESOURCES);
        (cpus, memory)
    };
    let r = &mut spec.resources;
    (r.cpu_limit_milli, r.memory_limit_bytes) = side("limits", p);
    (r.cpu_reserved_milli, r.memory_reserved_bytes) = side("reservations", p);
    fields.finish(p, &[]);
    let over = |reserved, limit| limit > 0 && reserved > limit;
    if over(r.cpu_reserved_milli, r.cpu_limit_milli) {
        item.invalid(p, "reservations.cpus is above limits.cpus");
    }
    if over(r.memory_reserved_bytes, r.memory_limit_bytes) {
        item.invalid(p, "reservations.memory is above limits.memory");
    }
}

fn placement(item: &Item<'_>, p: &mut Problems) -> Option<PlacementSpec> {
    let mut fields = item.fields(p)?;
    let mut placement = PlacementSpec::default();
    if let Some(list) = fields.take("constraints") {
        for i in list.items(p) {
            let Some(text) = i.text(p) else { continue };
            match constraint(text) {
                Ok(constraint) => placement.constraints.push(constraint),
                Err(message) => {
                    i.invalid_help(p, message, "for example: node.labels.disk == ssd");
                }
            }
        }
        if placement.constraints.len() > CONSTRAINTS_MAX {
            list.invalid(p, format!("more than {CONSTRAINTS_MAX} constraints"));
        }
    }
    if let Some(list) = fields.take("preferences") {
        for i in list.items(p) {
            let Some(mut fields) = i.fields(p) else {
                continue;
            };
            if let Some(spread) = fields.take("spread")
                && let Some(text) = spread.text(p)
            {
                match text.strip_prefix("node.labels.").filter(|l| !l.is_empty()) {
                    Some(label) => placement.spread_labels.push(label.to_owned()),
                    None => spread.invalid(p, format!("{text:?} must be node.labels.NAME")),
                }
            }
            fields.finish(p, &[]);
        }
    }
    if let Some(n) = fields
        .take("max_replicas_per_node")
        .and_then(|i| i.number(p, 0, 100_000))
    {
        placement.max_per_node = n;
    }
    fields.finish(p, &[]);
    Some(placement)
}

/// Swarm's grammar: `node.labels.disk == ssd`, `node.hostname != web1`.
fn constraint(text: &str) -> Result<Constraint, String> {
    let (equal, (left, value)) = match (text.split_once("=="), text.split_once("!=")) {
        (Some(parts), None) => (true, parts),
        (None, Some(parts)) => (false, parts),
        _ => return Err(format!("{text:?} needs one == or !=")),
    };
    let value = value.trim().to_owned();
    if value.is_empty() || value.len() > 256 {
        return Err(format!("{text:?} compares with nothing"));
    }
    let attribute = match left.trim() {
        "node.id" => NodeAttribute::Id,
        "node.hostname" => NodeAttribute::Hostname,
        "node.role" => match value.as_str() {
            "worker" | "edge" => NodeAttribute::Role,
            _ => return Err(format!("role {value:?}: nodes are worker or edge")),
        },
        "node.platform.os" => NodeAttribute::Os,
        "node.platform.arch" => NodeAttribute::Arch,
        other => match other.strip_prefix("node.labels.").filter(|l| !l.is_empty()) {
            Some(label) => NodeAttribute::Label(label.to_owned()),
            None => return Err(format!("{other:?} is no attribute of a node")),
        },
    };
    Ok(Constraint {
        attribute,
        equal,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_read_swarm_grammar() {
        let c = constraint("node.labels.disk==ssd").unwrap();
        assert_eq!(c.attribute, NodeAttribute::Label("disk".into()));
        assert!(c.equal);
        let c = constraint("node.hostname != web1 ").unwrap();
        assert_eq!(
            (c.attribute, c.equal, c.value.as_str()),
            (NodeAttribute::Hostname, false, "web1")
        );
        for bad in [
            "",
            "node.labels.==x",
            "node.id=x",
            "engine.labels.a==b",
            "node.role==manager",
            "a==b!=c",
        ] {
            assert!(constraint(bad).is_err(), "{bad}");
        }
    }
}

//! Images that nodes should have before a replica is placed on them: of services that may grow, on
//! nodes that would be chosen next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::node::{Availability, Node};
use longshore_model::observe::{EngineState, NodeObserved};
use longshore_model::spec::{NodeAttribute, PullPolicy};
use longshore_model::{Desired, ImageRef, NodeId, Observed, Plan, ServiceKey, ServiceSpec};

/// Nodes beyond those that run a service that are to have its image.
const NODES_MAX: usize = 8;
/// Images that one node is to have.
const IMAGES_MAX: usize = 16;

/// One image that a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Which.
    pub image: ImageRef,
    /// For which service.
    pub service: ServiceKey,
    /// How many replicas that may yet have.
    pub room: u32,
}

/// What each node should have, those of services with the most room first.
#[must_use]
pub fn ahead(desired: &Desired, plan: &Plan, observed: &Observed) -> BTreeMap<NodeId, Vec<Ahead>> {
    let mut load: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let replicas: Vec<_> = plan.replicas().collect();
    for replica in &replicas {
        *load.entry(&replica.node).or_default() += 1;
    }
    let mut all: BTreeMap<NodeId, Vec<Ahead>> = BTreeMap::new();
    for (key, _, spec) in desired.services() {
        let target = plan.services.get(&key).map_or(0, |service| service.target);
        let room = room(spec, target);
        if room == 0 || spec.container.pull_policy == PullPolicy::Never {
            continue;
        }
        let there: BTreeSet<&NodeId> = plan.replicas_of(&key).map(|r| &r.node).collect();
        let fits = |node: &&Node| {
            let seen = observed.nodes.get(&node.id);
            !there.contains(&node.id) && seen.is_some_and(|seen| fits(node, seen, spec))
        };
        let mut nodes: Vec<&Node> = desired.nodes.values().filter(fits).collect();
        nodes.sort_by_key(|node| (load.get(&node.id).copied().unwrap_or(0), &node.id));
        let few = usize::try_from(room).unwrap_or(usize::MAX).min(NODES_MAX);
        for node in nodes.into_iter().take(few) {
            let ahead = Ahead {
                image: spec.container.image_ref(),
                service: key.clone(),
                room,
            };
            all.entry(node.id.clone()).or_default().push(ahead);
        }
    }
    for images in all.values_mut() {
        images.sort_by(|a, b| (b.room, &a.service).cmp(&(a.room, &b.service)));
        images.truncate(IMAGES_MAX);
    }
    all
}

/// How many replicas more its autoscaler may ask for.
fn room(spec: &ServiceSpec, target: u32) -> u32 {
    let most = spec.autoscale.as_ref().map_or(0, |scaling| scaling.max);
    most.saturating_sub(target)
}

/// Could the planner choose it? As its filters, but for what changes with every replica.
fn fits(node: &Node, seen: &NodeObserved, spec: &ServiceSpec) -> bool {
    let capacity = &seen.capacity;
    let platform = spec.container.platform.as_ref();
    let value = |attribute: &NodeAttribute| -> Vec<&str> {
        match attribute {
            NodeAttribute::Id | NodeAttribute::Hostname => vec![node.id.as_str()],
            NodeAttribute::Role => [(node.roles.worker, "worker"), (node.roles.edge, "edge")]
                .into_iter()
                .filter_map(|(has, word)| has.then_some(word))
                .collect(),
            NodeAttribute::Os => vec![&*capacity.os],
            NodeAttribute::Arch => vec![&*capacity.arch],
            NodeAttribute::Label(key) => vec![node.labels.get(key).map_or("", String::as_str)],
            NodeAttribute::EngineLabel(key) => {
                vec![capacity.engine_labels.get(key).map_or("", String::as_str)]
            }
        }
    };
    let mut constraints = spec.placement.constraints.iter();
    node.roles.worker
        && node.availability == Availability::Active
        && seen.engine == EngineState::Ok
        && platform.is_none_or(|platform| platform.runs_on(&capacity.os, &capacity.arch))
        && constraints.all(|constraint| constraint.holds(value(&constraint.attribute)))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use longshore_model::node::{Capacity, Roles};
    use longshore_model::spec::Platform;
    use longshore_model::{App, AutoscaleSpec};

    use super::*;
    use crate::testing::service_spec;

    /// Nodes a, b, c and d, the last of another architecture; b is cordoned.
    fn cluster(max: u32) -> (Desired, Observed) {
        let policy = format!(
            r#"{{"min": 1, "max": {max}, "metrics": [], "window_ms": 1, "warmup_ms": 1,
                "scale_up": {{"stabilization_ms": 0, "tolerance": 0}},
                "scale_down": {{"stabilization_ms": 0, "tolerance": 0}}}}"#
        );
        let policy: AutoscaleSpec = serde_json::from_str(&policy).unwrap();
        let mut spec = service_spec();
        spec.container.platform = Platform::parse("linux/amd64");
        spec.autoscale = Some(policy);
        let key: ServiceKey = "shop/web".parse().unwrap();
        let app = App {
            name: key.app.clone(),
            revision: 1,
            services: [(key.service, Arc::new(spec))].into(),
            applied_ms: 1,
            applied_by: "ana".into(),
            numbers: BTreeMap::new(),
        };
        let mut desired = Desired::default();
        desired.apps.insert(key.app, app);
        let mut observed = Observed::default();
        for (name, arch) in [
            ("a", "amd64"),
            ("b", "amd64"),
            ("c", "x86_64"),
            ("d", "arm64"),
        ] {
            let id: NodeId = name.parse().unwrap();
            let node = Node {
                id: id.clone(),
                roles: Roles {
                    worker: true,
                    edge: false,
                },
                labels: BTreeMap::new(),
                availability: match name {
                    "b" => Availability::Cordoned,
                    _ => Availability::Active,
                },
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                joined_ms: 1,
                note: None,
                drain: None,
            };
            desired.nodes.insert(id.clone(), node);
            let capacity = Capacity {
                os: "linux".into(),
                arch: arch.into(),
                ..Capacity::default()
            };
            let seen = NodeObserved {
                capacity: Arc::new(capacity),
                ..NodeObserved::default()
            };
            observed.nodes.insert(id, Arc::new(seen));
        }
        (desired, observed)
    }

    fn told(max: u32, without: &[&str]) -> Vec<String> {
        let (desired, mut observed) = cluster(max);
        observed
            .nodes
            .retain(|id, _| !without.contains(&id.as_str()));
        let all = ahead(&desired, &Plan::default(), &observed);
        for images in all.values() {
            assert_eq!(images.len(), 1);
            assert_eq!(images[0].image.to_string(), "hello:1");
        }
        all.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn nodes_that_could_be_chosen_next_get_the_image_and_no_others() {
        assert_eq!(told(5, &[]), ["a", "c"]);
        assert_eq!(told(1, &[]), ["a"], "no more than it may grow by");
        assert_eq!(told(5, &["a"]), ["c"], "a is not connected");
        assert!(told(0, &[]).is_empty());
    }
}

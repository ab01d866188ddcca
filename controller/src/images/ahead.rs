//! Images that nodes should have before a replica is placed on them: of services that may grow, on
//! nodes that would be chosen next. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use longshore_model::node::{Availability, Node};
use longshore_model::observe::{EngineState, NodeObserved};
use longshore_model::spec::{NodeAttribute, PullPolicy};
use longshore_model::{Desired, NodeId, Observed, Plan, ServiceKey, ServiceSpec};

use super::board::{Ahead, AheadWhy};

/// Nodes beyond those that run a service that are to have its image.
const NODES_MAX: usize = 8;
/// Images that one node is to have.
const IMAGES_MAX: usize = 16;

/// How much a service may yet place: what its autoscaler may ask for beyond what it has, and the
/// warm standbys that are missing by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    replicas: u32,
    standbys: u32,
    /// Those that grow without a standby that waits for them.
    cold: u32,
}

/// What each node should have, those of services first that would have the most replicas wait for
/// their image: a service with warm standbys grows by these before any image is needed.
#[must_use]
pub(super) fn ahead(
    desired: &Desired,
    plan: &Plan,
    observed: &Observed,
) -> BTreeMap<NodeId, Vec<Ahead>> {
    let mut load: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let replicas: Vec<_> = plan.replicas().collect();
    for replica in &replicas {
        *load.entry(&replica.node).or_default() += 1;
    }
    let mut all: BTreeMap<NodeId, Vec<(Urgency, Ahead)>> = BTreeMap::new();
    for (key, _, spec) in desired.services() {
        let target = plan.services.get(&key).map_or(0, |service| service.target);
        let stays = plan.replicas_of(&key).filter(|r| r.leaving.is_none());
        let standbys = stays.filter(|r| r.paused).count();
        let room = room(spec, target, u32::try_from(standbys).unwrap_or(u32::MAX));
        let places = room.replicas.saturating_add(room.standbys);
        if places == 0 || spec.container.pull_policy == PullPolicy::Never {
            continue;
        }
        let there: BTreeSet<&NodeId> = plan.replicas_of(&key).map(|r| &r.node).collect();
        let why = match room.replicas {
            0 => AheadWhy::Standby {
                service: key.clone(),
                replicas: room.standbys,
            },
            _ => AheadWhy::ScaleOut {
                service: key.clone(),
                replicas: places,
            },
        };
        let fits = |node: &&Node| {
            let seen = observed.nodes.get(&node.id);
            !there.contains(&node.id) && seen.is_some_and(|seen| fits(node, seen, spec))
        };
        let mut nodes: Vec<&Node> = desired.nodes.values().filter(fits).collect();
        nodes.sort_by_key(|node| (load.get(&node.id).copied().unwrap_or(0), &node.id));
        let few = usize::try_from(places).unwrap_or(usize::MAX).min(NODES_MAX);
        for node in nodes.into_iter().take(few) {
            let ahead = Ahead {
                image: spec.container.image_ref(),
                why: why.clone(),
            };
            let urgency = (Reverse(room.cold), Reverse(places), key.clone());
            all.entry(node.id.clone())
                .or_default()
                .push((urgency, ahead));
        }
    }
    let first = |mut images: Vec<(Urgency, Ahead)>| {
        images.sort_by(|(a, _), (b, _)| a.cmp(b));
        images.truncate(IMAGES_MAX);
        images.into_iter().map(|(_, ahead)| ahead).collect()
    };
    all.into_iter()
        .map(|(node, images)| (node, first(images)))
        .collect()
}

/// Cold growth, all places, then by name.
type Urgency = (Reverse<u32>, Reverse<u32>, ServiceKey);

/// What it may yet place beside its `target` and the `standbys` that it has.
fn room(spec: &ServiceSpec, target: u32, standbys: u32) -> Room {
    let (most, warm) = spec
        .autoscale
        .as_ref()
        .map_or((0, 0), |scaling| (scaling.max, scaling.warm));
    // Growth takes the standbys first; their places are filled up again.
    let replicas = most.saturating_sub(target);
    Room {
        replicas,
        standbys: warm.saturating_sub(standbys),
        cold: replicas.saturating_sub(standbys),
    }
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
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use longshore_model::node::{Capacity, Roles};
    use longshore_model::spec::Platform;
    use longshore_model::{App, AutoscaleSpec};

    use super::*;
    use crate::testing::service_spec;

    /// Nodes a, b, c and d, the last of another architecture; b is cordoned.
    pub(crate) fn cluster(max: u32, warm: u32) -> (Desired, Observed) {
        let policy = format!(
            r#"{{"min": 1, "max": {max}, "warm": {warm}, "metrics": [], "window_ms": 1, "warmup_ms": 1,
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
                uncordoned_ms: 0,
                removed_volumes: BTreeMap::new(),
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
        let (desired, mut observed) = cluster(max, 0);
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
    fn standbys_that_are_missing_need_their_image_and_those_that_are_there_save_it() {
        let (desired, observed) = cluster(0, 1);
        let all = ahead(&desired, &Plan::default(), &observed);
        let whys: Vec<_> = all
            .values()
            .flatten()
            .map(|ahead| ahead.why.kind())
            .collect();
        assert_eq!(whys, ["standby"], "all that may serve do");
        let spec = desired.services().next().unwrap().2;
        let mut spec = ServiceSpec::clone(spec);
        let policy = spec.autoscale.as_mut().unwrap();
        (policy.max, policy.warm) = (5, 2);
        let with = |replicas, standbys, cold| Room {
            replicas,
            standbys,
            cold,
        };
        assert_eq!(room(&spec, 1, 0), with(4, 2, 4));
        assert_eq!(
            room(&spec, 1, 2),
            with(4, 0, 2),
            "two grow without an image"
        );
        assert_eq!(room(&spec, 5, 1), with(0, 1, 0));
        assert_eq!(room(&spec, 9, 3), with(0, 0, 0));
    }

    #[test]
    fn nodes_that_could_be_chosen_next_get_the_image_and_no_others() {
        assert_eq!(told(5, &[]), ["a", "c"]);
        assert_eq!(told(1, &[]), ["a"], "no more than it may grow by");
        assert_eq!(told(5, &["a"]), ["c"], "a is not connected");
        assert!(told(0, &[]).is_empty());
    }
}

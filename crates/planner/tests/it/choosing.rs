//! The fast choice of nodes against a naive one that looks at every node for every replica.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::world::*;
use longshore_model::spec::{Constraint, NodeAttribute, Resources};
use longshore_model::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Wish {
    replicas: u32,
    more: u32,
    cpu_milli: u64,
    memory_mib: u64,
    ssd: bool,
    max_per_node: u32,
    image: u8,
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        0..9_u32,
        0..6_u32,
        0..9_u64,
        0..9_u64,
        any::<bool>(),
        0..4_u32,
        0..3_u8,
    )
        .prop_map(
            |(replicas, more, cpu, memory, ssd, max_per_node, image)| Wish {
                replicas,
                more,
                cpu_milli: cpu * 100,
                memory_mib: memory * 200,
                ssd,
                max_per_node,
                image,
            },
        )
}

/// What the naive choice counts on a node.
#[derive(Debug, Default, Clone)]
struct Tally {
    replicas: u32,
    cpu_milli: u64,
    memory_bytes: u64,
    of_service: BTreeMap<ServiceKey, u32>,
}

struct Naive<'w> {
    world: &'w World,
    tallies: BTreeMap<NodeId, Tally>,
}

impl Naive<'_> {
    fn take(&mut self, node: &NodeId, key: &ServiceKey, asked: Resources) {
        let tally = self.tallies.entry(node.clone()).or_default();
        tally.replicas += 1;
        tally.cpu_milli += asked.cpu_reserved_milli;
        tally.memory_bytes += asked.memory_reserved_bytes;
        *tally.of_service.entry(key.clone()).or_default() += 1;
    }

    /// The documented order, field by field, over all nodes.
    fn best(&self, key: &ServiceKey, spec: &ServiceSpec) -> Option<NodeId> {
        let asked = spec.container.resources;
        let nodes = self
            .world
            .desired
            .nodes
            .iter()
            .filter(|(_, n)| n.roles.worker);
        let scores = nodes.filter_map(|(id, node)| {
            let seen = self.world.observed.nodes.get(id)?;
            let tally = self.tallies.get(id).cloned().unwrap_or_default();
            let here = tally.of_service.get(key).copied().unwrap_or(0);
            let ssd = node.labels.get("disk").is_some_and(|disk| disk == "ssd");
            let fits = tally.cpu_milli + asked.cpu_reserved_milli <= seen.capacity.cpu_milli
                && tally.memory_bytes + asked.memory_reserved_bytes <= seen.capacity.memory_bytes
                && (spec.placement.constraints.is_empty() || ssd)
                && (spec.placement.max_per_node == 0 || here < spec.placement.max_per_node);
            let fill = (tally.cpu_milli * 1_000 / seen.capacity.cpu_milli)
                .max(tally.memory_bytes * 1_000 / seen.capacity.memory_bytes);
            let absent = !seen.images.contains(&spec.container.image);
            // All of them have the same load here.
            fits.then(|| (here, tally.replicas, fill, absent, id.clone()))
        });
        scores.min().map(|score| score.4)
    }

    /// Does each placement of a run go where the naive choice would put it?
    fn agrees(&mut self, events: &[EventKind]) {
        for event in events {
            let EventKind::Placed {
                service,
                node,
                replica,
                ..
            } = event
            else {
                continue;
            };
            let Some((_, spec)) = self.world.desired.service(service) else {
                panic!("{service} is not wanted");
            };
            let best = self.best(service, spec);
            assert_eq!(best.as_ref(), Some(node), "{replica} of {service}");
            self.take(node, service, spec.container.resources);
        }
    }
}

/// Each image is on the nodes of its bits.
fn pull(world: &mut World, images: [u8; 3]) {
    for (n, seen) in world.observed.nodes.values_mut().enumerate() {
        let held = images.iter().enumerate();
        let held = held.filter(|(_, on)| **on & (1 << n) != 0);
        let held = held.map(|(image, _)| format!("image:{image}"));
        Arc::make_mut(seen).images = Arc::new(held.collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_fast_choice_is_the_naive_one(
        nodes in 1..7_usize,
        ssd in any::<u8>(),
        images in any::<[u8; 3]>(),
        later in any::<[u8; 3]>(),
        wishes in proptest::collection::vec(wish(), 1..6),
    ) {
        let mut world = World::new(nodes);
        world.tick(500);
        for (n, node) in world.desired.nodes.values_mut().enumerate() {
            let disk = if ssd & (1 << n) == 0 { "hdd" } else { "ssd" };
            node.labels.insert("disk".into(), disk.into());
        }
        pull(&mut world, images);
        for (n, wish) in wishes.iter().enumerate() {
            let mut spec = spec(&format!("image:{}", wish.image), wish.replicas);
            spec.container.resources = Resources {
                cpu_reserved_milli: wish.cpu_milli,
                memory_reserved_bytes: wish.memory_mib << 20,
                ..Resources::default()
            };
            spec.placement.max_per_node = wish.max_per_node;
            if wish.ssd {
                spec.placement.constraints.push(Constraint {
                    attribute: NodeAttribute::Label("disk".into()),
                    equal: true,
                    value: "ssd".into(),
                });
            }
            world.apply(&format!("s{n}"), spec);
        }
        let mut tallies = BTreeMap::new();
        for round in 0..2 {
            if round == 1 {
                pull(&mut world, later);
                for (n, wish) in wishes.iter().enumerate() {
                    world.scale(&format!("s{n}"), wish.replicas + wish.more);
                }
            }
            let outcome = world.run();
            let mut naive = Naive { world: &world, tallies };
            naive.agrees(&outcome.report.events);
            tallies = naive.tallies;
        }
    }
}

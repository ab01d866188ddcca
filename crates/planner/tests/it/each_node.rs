//! Services with one replica on each node.

use std::collections::BTreeMap;

use crate::world::*;
use longshore_model::reason::{LeaveReason, ScaleCause};
use longshore_model::spec::{
    Constraint, GateSpec, NodeAttribute, ServiceMode, UpdateOrder, UpdateSpec,
};
use longshore_model::*;

fn global(image: &str) -> ServiceSpec {
    ServiceSpec {
        mode: ServiceMode::Global,
        ..spec(image, 0)
    }
}

/// Replicas that stay, by node: one letter each, the image's last.
fn on_nodes(world: &World) -> BTreeMap<String, String> {
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    for replica in world.plan.replicas_of(&key("web")) {
        if replica.leaving.is_none() {
            let image = &world.plan.template(replica).unwrap().image;
            let at = there.entry(replica.node.to_string()).or_default();
            at.extend(image.chars().last());
        }
    }
    there
}

fn is_on(world: &World, nodes: &[(&str, &str)]) {
    let wanted = nodes.iter().map(|(n, i)| ((*n).into(), (*i).into()));
    assert_eq!(on_nodes(world), wanted.collect::<BTreeMap<_, _>>());
    let target = world.plan.services[&key("web")].target;
    assert_eq!(target as usize, nodes.len());
}

fn settled(world: &World, nodes: &[(&str, &str)]) {
    is_on(world, nodes);
    let report = &world.report.services[&key("web")];
    assert_eq!(report.serving as usize, nodes.len(), "{report:?}");
    assert_eq!((report.leaving, &report.waits), (0, &vec![]), "{report:?}");
}

fn left(world: &World) -> Vec<(String, LeaveReason)> {
    let events = world.events.iter();
    events
        .filter_map(|event| match event {
            EventKind::Leaving { node, why, .. } => Some((node.to_string(), why.clone())),
            _ => None,
        })
        .collect()
}

fn said(world: &World) -> String {
    let report = &world.report.services[&key("web")];
    let reasons = report.scale.reasons.iter().map(ToString::to_string);
    reasons.collect::<Vec<_>>().join(" / ")
}

fn three() -> World {
    let mut world = World::new(3);
    world.apply("web", global("web:1"));
    world.ticks(20);
    world
}

const ALL: [(&str, &str); 3] = [("node1", "1"), ("node2", "1"), ("node3", "1")];

#[test]
fn each_node_has_one_and_one_that_joins_gets_one_at_once() {
    let mut world = three();
    settled(&world, &ALL);
    assert_eq!(said(&world), "one on each of 3 nodes");
    world.add_worker("node4");
    world.tick(500);
    is_on(&world, &[ALL[0], ALL[1], ALL[2], ("node4", "1")]);
    let last = world.plan.services[&key("web")]
        .last_change
        .clone()
        .unwrap();
    assert_eq!((last.from, last.to, last.cause), (3, 4, ScaleCause::Nodes));
    world.ticks(20);
    settled(&world, &[ALL[0], ALL[1], ALL[2], ("node4", "1")]);
}

#[test]
fn a_drained_node_loses_its_one_and_nobody_waits() {
    let mut world = three();
    world.sticky = true;
    world.drain("node2", 600_000, false);
    world.tick(500);
    is_on(&world, &[ALL[0], ALL[2]]);
    assert_eq!(left(&world), [("node2".into(), LeaveReason::NodeDrain)]);
    let report = world.report.services[&key("web")].clone();
    assert_eq!(report.waits, []);
    assert_eq!(said(&world), "one on each of 2 nodes; node2 not: draining");
    world.sticky = false;
    world.ticks(20);
    settled(&world, &[ALL[0], ALL[2]]);
    let drain = world.report.nodes[&id("node2")].drain.clone().unwrap();
    assert_eq!(drain.left, 0);
    world.available("node2", Availability::Active);
    world.tick(500);
    is_on(&world, &ALL);
}

/// With others failing as well: a drain is nobody else's matter.
#[test]
fn a_drain_does_not_wait_for_what_others_lack() {
    let mut world = World::new(2);
    world.node("node2").empty = true;
    world.apply("web", global("web:1"));
    world.ticks(20);
    settled(&world, &ALL[..1]);
    world.drain("node1", 600_000, false);
    world.ticks(20);
    settled(&world, &[]);
    assert!(said(&world).starts_with("one on each of 0 nodes; node1 not: draining; node2 not:"));
}

#[test]
fn a_cordoned_node_keeps_its_one_and_gets_none() {
    let mut world = three();
    world.available("node2", Availability::Cordoned);
    world.ticks(20);
    settled(&world, &ALL);
    let mut world = World::new(3);
    world.available("node2", Availability::Cordoned);
    world.apply("web", global("web:1"));
    world.ticks(20);
    settled(&world, &[ALL[0], ALL[2]]);
    assert_eq!(said(&world), "one on each of 2 nodes; node2 not: cordoned");
    world.available("node2", Availability::Active);
    world.tick(500);
    is_on(&world, &ALL);
}

#[test]
fn a_label_decides_from_the_moment_on_that_it_changes() {
    let mut world = World::new(3);
    let mut spec = global("web:1");
    spec.placement.constraints = vec![Constraint {
        attribute: NodeAttribute::Label("ssd".into()),
        equal: true,
        value: "true".into(),
    }];
    world.apply("web", spec);
    world.ticks(5);
    is_on(&world, &[]);
    let label = |world: &mut World, value: &str| {
        let node = world.desired.nodes.get_mut(&id("node2")).unwrap();
        node.labels.insert("ssd".into(), value.into());
    };
    label(&mut world, "true");
    world.ticks(20);
    settled(&world, &[ALL[1]]);
    label(&mut world, "no");
    world.tick(500);
    is_on(&world, &[]);
    let [(node, LeaveReason::NodeUnfit { why })] = &left(&world)[..] else {
        panic!("{:?}", left(&world));
    };
    assert_eq!(node, "node2");
    let why = why.to_string();
    assert_eq!(why, "constraint node.labels.ssd == true does not hold (no)");
}

#[test]
fn a_lost_nodes_one_is_not_made_up_for_and_comes_back_with_it() {
    let mut world = three();
    world.node("node3").power = false;
    world.ticks(60);
    is_on(&world, &ALL[..2]);
    settled(&world, &ALL[..2]);
    assert_eq!(
        said(&world),
        "one on each of 2 nodes; node3 not: not connected"
    );
    world.node("node3").power = true;
    world.ticks(20);
    settled(&world, &ALL);
}

#[test]
fn a_node_that_is_removed_takes_its_one_along() {
    let mut world = three();
    world.desired.nodes.remove(&id("node3"));
    world.ticks(20);
    settled(&world, &ALL[..2]);
}

fn rollout(update: UpdateSpec, fixed: bool) -> (Vec<BTreeMap<String, String>>, u32, World) {
    let mut world = World::new(3);
    let spec = |image: &str| {
        let mut spec = global(image);
        spec.update = update.clone();
        if fixed {
            spec.container.fixed_ports = [(8000, 8000)].into();
        }
        spec
    };
    world.apply("web", spec("web:1"));
    world.ticks(20);
    settled(&world, &ALL);
    world.apply("web", spec("web:2"));
    let (mut seen, mut least) = (Vec::new(), 3);
    for _ in 0..120 {
        world.ticks(1);
        least = least.min(world.report.services[&key("web")].serving);
        if seen.last() != Some(&on_nodes(&world)) {
            seen.push(on_nodes(&world));
        }
    }
    settled(&world, &[("node1", "2"), ("node2", "2"), ("node3", "2")]);
    (seen, least, world)
}

#[test]
fn a_rollout_goes_from_node_to_node_and_starts_first() {
    let (seen, least, _) = rollout(UpdateSpec::default(), false);
    assert_eq!(least, 3);
    let both = |there: &BTreeMap<String, String>| there.values().filter(|s| s.len() > 1).count();
    assert_eq!(seen.iter().map(both).max(), Some(1), "{seen:?}");
    assert!(seen.iter().all(|there| there.len() == 3), "{seen:?}");
}

#[test]
fn a_host_port_makes_them_stop_first_one_node_at_a_time() {
    for order in [UpdateOrder::Auto, UpdateOrder::StopFirst] {
        let update = UpdateSpec {
            order,
            ..UpdateSpec::default()
        };
        let (seen, least, _) = rollout(update, true);
        assert_eq!(least, 2, "{order:?}");
        assert!(
            seen.iter()
                .all(|there| there.values().all(|s| s.len() == 1))
        );
    }
}

#[test]
fn a_rollout_passes_a_cordoned_node_by_and_catches_up() {
    let mut world = three();
    world.available("node2", Availability::Cordoned);
    world.apply("web", global("web:2"));
    world.ticks(120);
    is_on(&world, &[("node1", "2"), ("node2", "1"), ("node3", "2")]);
    let phase = |world: &World| {
        let rollout = world.plan.services[&key("web")].rollout.clone();
        rollout.unwrap().phase
    };
    assert_eq!(phase(&world), longshore_model::rollout::Phase::Done);
    world.available("node2", Availability::Active);
    world.ticks(60);
    settled(&world, &[("node1", "2"), ("node2", "2"), ("node3", "2")]);
}

#[test]
fn what_fails_on_one_node_keeps_no_other_from_having_one() {
    let mut world = World::new(2);
    world.broken.push("web:1".into());
    world.apply("web", global("web:1"));
    world.ticks(4);
    let waits = |world: &World| {
        let report = &world.report.services[&key("web")];
        let mut waits = report.waits.iter();
        waits.any(|wait| matches!(wait, Reason::Backoff { .. }))
    };
    assert!(waits(&world));
    world.broken.clear();
    world.add_worker("node3");
    world.tick(500);
    assert!(
        on_nodes(&world).contains_key("node3"),
        "{:?}",
        on_nodes(&world)
    );
}

#[test]
fn a_count_becomes_one_on_each_node_and_a_count_again() {
    let mut world = World::new(3);
    world.apply("web", spec("web:1", 5));
    world.ticks(20);
    world.apply("web", global("web:1"));
    world.ticks(40);
    settled(&world, &ALL);
    world.scale("web", 7);
    world.ticks(5);
    settled(&world, &ALL);
    world.apply("web", spec("web:1", 2));
    world.ticks(40);
    assert_eq!(world.report.services[&key("web")].serving, 2);
}

#[test]
fn a_node_without_room_is_waited_for_by_name() {
    let mut world = World::new(2);
    let mut big = spec("api:1", 1);
    big.routes.clear();
    big.container.resources.cpu_reserved_milli = 3_900;
    world.apply("api", big);
    world.ticks(20);
    let mut spec = global("web:1");
    spec.container.resources.cpu_reserved_milli = 500;
    world.apply("web", spec);
    world.ticks(20);
    let report = &world.report.services[&key("web")];
    assert_eq!((report.wanted, report.serving), (2, 1));
    let [
        Reason::Unplaceable {
            refusals, nodes, ..
        },
    ] = &report.waits[..]
    else {
        panic!("{:?}", report.waits);
    };
    assert_eq!((refusals.len(), *nodes), (1, 1));
}

/// Its container runs, and its check fails.
fn sicken(world: &mut World, image: char) {
    let (id, node) = {
        let mut active = world.active("web").into_iter();
        let of_image = |r: &&Replica| world.plan.template(r).unwrap().image.ends_with(image);
        let sick = active.find(of_image).unwrap();
        (sick.id, sick.node.clone())
    };
    let sim = world.node(node.as_str());
    sim.containers.get_mut(&id).unwrap().state = ReplicaState::Unhealthy;
}

/// All in one run: the world looks whether the next one finds more to do.
#[test]
fn one_that_serves_nobody_leaves_as_soon_as_its_successor_is_planned() {
    let mut world = three();
    sicken(&mut world, '1');
    world.ticks(1);
    world.apply("web", global("web:2"));
    world.tick(500);
    assert_eq!(left(&world), [("node1".into(), LeaveReason::Replaced)]);
    is_on(&world, &[("node1", "2"), ALL[1], ALL[2]]);
    world.ticks(120);
    settled(&world, &[("node1", "2"), ("node2", "2"), ("node3", "2")]);
}

/// While an edge does not answer, nobody knows of any replica that it serves.
#[test]
fn of_two_old_ones_the_sick_one_leaves_though_an_edge_is_silent() {
    let gated = |image: &str| {
        let mut spec = global(image);
        spec.gate = Some(GateSpec {
            requests_min: 20,
            error_increase_permille_max: Some(20),
            latency_permille_max: None,
            latency_ms_min: 10,
        });
        spec
    };
    let mut world = World::new(1);
    world.apply("web", gated("web:1"));
    world.ticks(40);
    settled(&world, &ALL[..1]);
    world.apply("web", gated("web:2"));
    world.ticks(8);
    assert_eq!(on_nodes(&world), [("node1".into(), "12".into())].into());
    assert_eq!(world.report.services[&key("web")].serving, 2);
    sicken(&mut world, '1');
    world.edge().problem = Some("HAProxy does not answer".into());
    world.deaf_edges = true;
    world.tick(500);
    world.apply("web", gated("web:3"));
    world.tick(500);
    let there = on_nodes(&world);
    assert!(there["node1"].starts_with('2'), "{there:?}");
}

/// A drain lowers the count, and with it the number of failures that a rollout bears: whenever it
/// comes, nothing is started and given up in the same run.
#[test]
fn a_drain_may_end_a_rollout_that_bore_its_failures() {
    use longshore_model::rollout::Phase;
    let failed = |world: &World| {
        let rollout = world.plan.services[&key("web")].rollout.clone();
        rollout.map_or((0, Phase::Done), |rollout| (rollout.failed, rollout.phase))
    };
    for later in 0..24 {
        let mut world = World::new(4);
        let spec = |image: &str| {
            let mut spec = global(image);
            spec.update.parallelism = 2;
            spec.update.failure_permille_max = Some(500);
            spec
        };
        world.apply("web", spec("web:1"));
        world.ticks(20);
        world.broken.push("web:2".into());
        world.apply("web", spec("web:2"));
        world.ticks(1);
        for _ in 0..20 {
            if failed(&world).0 == 2 {
                break;
            }
            world.ticks(1);
        }
        assert_eq!(failed(&world), (2, Phase::Running));
        world.ticks(later);
        world.drain("node4", 600_000, false);
        world.ticks(2);
        assert_eq!(failed(&world).1, Phase::Failed, "{later}");
    }
}

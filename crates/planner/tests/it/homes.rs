//! Volumes whose data is on one node hold their service there, and one replica at a time writes.

use crate::world::*;
use longshore_model::reason::{HomeRefusal, LeaveReason};
use longshore_model::spec::{Mount, MountOptions, UpdateOrder};
use longshore_model::*;

const VOLUME: &str = "shop_data";

fn with(image: &str, replicas: u32, volumes: &[&str]) -> ServiceSpec {
    let mut spec = spec(image, replicas);
    let mounts = volumes.iter().map(|name| Mount {
        source: (*name).to_owned(),
        target: format!("/{name}"),
        ..Mount::default()
    });
    spec.container.mounts = mounts.collect();
    spec
}

fn db(image: &str) -> ServiceSpec {
    with(image, 1, &[VOLUME])
}

/// One of three nodes, by chance of the names the first, has the data; the others are empty.
fn settled() -> World {
    let mut world = World::new(3);
    // Without its volume it would go to a node that holds less.
    world.apply("db", db("db:1"));
    world.ticks(20);
    assert_eq!(home(&world), "node1");
    world.apply("web", spec("web:1", 3));
    world.ticks(20);
    world
}

fn home(world: &World) -> String {
    world.plan.homes[VOLUME].node.to_string()
}

/// Containers of the service that nodes run, whatever the plan says.
fn running(world: &World, service: &str) -> usize {
    let of = |id: &ReplicaId| {
        let mut all = world.everyone();
        all.any(|replica| replica.id == *id && replica.service == key(service))
    };
    let nodes = world.nodes.values().filter(|node| node.power);
    let ids = nodes.flat_map(|node| &node.containers);
    ids.filter(|(id, status)| of(id) && status.state != ReplicaState::Gone)
        .count()
}

/// Runs until it serves again; nowhere else, and never two at once.
fn comes_back(world: &mut World, node: &str) {
    for _ in 0..120 {
        world.tick(500);
        assert!(running(world, "db") <= 1, "two writers");
        for replica in world.active("db") {
            assert_eq!(replica.node, id(node));
        }
    }
    assert_eq!(world.answering("db"), 1);
}

fn refused(world: &World) -> HomeRefusal {
    let waits = &world.report.services[&key("db")].waits;
    let found = waits.iter().find_map(|wait| match wait {
        Reason::Unplaceable { home, .. } => home.as_deref().cloned(),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{waits:?}"))
}

#[test]
fn an_update_stays_where_the_data_is_and_stops_first() {
    let mut world = settled();
    world.apply("db", db("db:2"));
    comes_back(&mut world, "node1");
    assert_eq!(world.active("db")[0].revision, 3);
    // A restart is another template as well.
    let mut restarted = db("db:2");
    restarted.container.restarted_ms = 7;
    world.apply("db", restarted);
    comes_back(&mut world, "node1");
    assert_eq!(world.active("db")[0].revision, 4);
}

#[test]
fn an_order_that_the_file_names_is_obeyed_on_the_same_node() {
    let mut world = settled();
    let mut next = db("db:2");
    next.update.order = UpdateOrder::StartFirst;
    world.apply("db", next);
    let mut most = 0;
    for _ in 0..60 {
        world.tick(500);
        assert_eq!(world.answering("db").max(1), world.answering("db"));
        most = most.max(running(&world, "db"));
    }
    assert_eq!(most, 2);
    assert_eq!(world.active("db")[0].node, id("node1"));
}

#[test]
fn what_is_only_read_needs_no_order_of_its_own() {
    let mut world = World::new(1);
    let read = |image: &str| {
        let mut spec = db(image);
        spec.container.mounts[0].read_only = true;
        spec
    };
    world.apply("db", read("db:1"));
    world.ticks(20);
    world.apply("db", read("db:2"));
    for _ in 0..60 {
        world.tick(500);
        assert!(world.answering("db") >= 1);
    }
}

#[test]
fn a_drain_leaves_it_where_its_data_is_and_says_so() {
    let mut world = settled();
    world.drain("node1", 5_000, false);
    world.ticks(40);
    assert_eq!(world.answering("db"), 1, "nobody was told to stop it");
    let said = world.report.nodes[&id("node1")].drain.clone().unwrap();
    assert_eq!((said.left, said.leaving), (1, 0));
    let why = said.waits[0].1.to_string();
    assert!(
        why.contains("shop_data is on node1, which is drained"),
        "{why}"
    );
    assert_eq!(world.active("web").len(), 3);
}

#[test]
fn a_forced_drain_stops_it_at_once_and_it_comes_back() {
    let mut world = settled();
    world.drain("node1", 600_000, true);
    world.ticks(40);
    assert_eq!((world.active("db").len(), running(&world, "db")), (0, 0));
    let why = refused(&world);
    assert_eq!((why.node, why.why), (id("node1"), Refusal::Draining));
    let by_force = |e: &&EventKind| {
        matches!(e, EventKind::Leaving { service, why: LeaveReason::NodeDrainForced, .. }
            if *service == key("db"))
    };
    assert_eq!(world.events.iter().filter(by_force).count(), 1);
    world.available("node1", Availability::Active);
    world.desired.nodes.get_mut(&id("node1")).unwrap().drain = None;
    comes_back(&mut world, "node1");
}

#[test]
fn a_forced_drain_stops_what_waits_for_its_update_too() {
    let mut world = settled();
    world.available("node1", Availability::Cordoned);
    world.apply("db", db("db:2"));
    world.ticks(20);
    assert_eq!(world.answering("db"), 1);
    world.drain("node1", 600_000, true);
    world.ticks(40);
    assert_eq!(running(&world, "db"), 0);
    world.available("node1", Availability::Active);
    world.desired.nodes.get_mut(&id("node1")).unwrap().drain = None;
    comes_back(&mut world, "node1");
    assert_eq!(world.active("db")[0].revision, 3);
}

#[test]
fn it_waits_for_a_lost_node_and_follows_what_still_runs_there() {
    let mut world = settled();
    world.ticks(60);
    world.node("node1").power = false;
    world.ticks(60);
    assert!(world.plan.lost.contains_key(&id("node1")));
    assert_eq!(world.active("db").len(), 0);
    assert_eq!(refused(&world).why, Refusal::Away);
    world.node("node1").power = true;
    comes_back(&mut world, "node1");
}

#[test]
fn a_sick_one_stops_before_its_successor_starts() {
    let mut world = settled();
    let sick = world.active("db")[0].id;
    let container = world.node("node1").containers.get_mut(&sick).unwrap();
    container.state = ReplicaState::Unhealthy;
    comes_back(&mut world, "node1");
    assert_ne!(world.active("db")[0].id, sick);
}

#[test]
fn services_that_share_a_volume_share_its_home() {
    let mut world = settled();
    world.apply("backup", with("backup:1", 1, &[VOLUME]));
    world.ticks(20);
    assert_eq!(world.active("backup")[0].node, id("node1"));
    world.apply("other", with("other:1", 1, &["shop_other"]));
    world.ticks(20);
    let other = world.plan.homes["shop_other"].node.clone();
    assert_ne!(other, id("node1"), "nothing holds it there");
    // No node has both.
    world.apply("db", with("db:3", 1, &[VOLUME, "shop_other"]));
    world.ticks(20);
    assert_eq!(world.active("db")[0].revision, 1, "it goes on serving");
    let why = refused(&world).to_string();
    assert!(why.contains("shop_other on"), "{why}");
}

#[test]
fn more_replicas_go_to_the_same_node() {
    let mut world = settled();
    world.apply("db", with("db:1", 3, &[VOLUME]));
    world.ticks(30);
    assert_eq!(world.per_node("db"), [("node1".to_owned(), 3)].into());
}

#[test]
fn data_that_is_everywhere_holds_nothing() {
    let mut world = World::new(3);
    let mut shared = with("db:1", 3, &[VOLUME]);
    shared.container.mounts[0].options = MountOptions {
        shared: true,
        ..MountOptions::default()
    };
    world.apply("db", shared);
    world.ticks(20);
    assert_eq!(world.per_node("db").len(), 3);
    assert!(world.plan.homes.is_empty());
}

#[test]
fn the_home_outlives_the_app_and_ends_with_the_volume() {
    let mut world = settled();
    let down = |world: &mut World| {
        let app = world.desired.apps.get_mut(&key("db").app).unwrap();
        app.services.remove(&key("db").service);
        world.ticks(20);
        assert!(world.replicas("db").is_empty());
    };
    down(&mut world);
    world.apply("db", db("db:1"));
    comes_back(&mut world, "node1");
    down(&mut world);
    let removed_ms = world.now;
    let node = world.desired.nodes.get_mut(&id("node1")).unwrap();
    node.volume_removed(VOLUME.into(), removed_ms);
    node.availability = Availability::Cordoned;
    world.tick(500);
    assert!(!world.plan.homes.contains_key(VOLUME));
    world.apply("db", db("db:1"));
    world.ticks(20);
    assert_ne!(home(&world), "node1");
    // What was removed before it came says nothing of it.
    world.available("node1", Availability::Active);
    world.ticks(20);
    assert_ne!(home(&world), "node1");
}

#[test]
fn a_node_that_left_the_cluster_is_no_home() {
    let mut world = settled();
    world.desired.nodes.remove(&id("node1"));
    world.ticks(60);
    assert_ne!(home(&world), "node1");
    assert_eq!(world.answering("db"), 1);
}

/// Clusters that ran before there were homes: it is where it serves.
#[test]
fn what_runs_already_is_at_home() {
    let mut world = settled();
    let plan = Plan {
        homes: Default::default(),
        ..(*world.plan).clone()
    };
    world.plan = std::sync::Arc::new(plan);
    world.tick(500);
    assert_eq!(home(&world), "node1");
    world.apply("db", db("db:2"));
    comes_back(&mut world, "node1");
}

fn has(world: &mut World, node: &str, volumes: &[(&str, u64)]) {
    let named = volumes.iter().map(|(name, ms)| ((*name).to_owned(), *ms));
    world.node(node).volumes = Some(named.collect());
}

fn external() -> ServiceSpec {
    let mut spec = db("db:1");
    spec.container.mounts[0].options.external = true;
    spec
}

#[test]
fn an_external_volume_that_is_nowhere_is_waited_for() {
    let mut world = World::new(2);
    for node in ["node1", "node2"] {
        has(&mut world, node, &[]);
    }
    world.apply("db", external());
    world.ticks(20);
    assert_eq!(world.replicas("db").len(), 0);
    let waits = &world.report.services[&key("db")].waits;
    let said: Vec<String> = waits.iter().map(ToString::to_string).collect();
    let said = said.join("; ");
    let way_out =
        "2 lack external volume shop_data (make it on one: docker volume create shop_data";
    assert!(said.contains(way_out), "{said}");
    has(&mut world, "node2", &[(VOLUME, 5)]);
    comes_back(&mut world, "node2");
}

#[test]
fn an_external_volume_that_was_removed_by_hand_is_no_home() {
    let mut world = World::new(2);
    has(&mut world, "node1", &[(VOLUME, 5)]);
    has(&mut world, "node2", &[]);
    world.apply("db", external());
    comes_back(&mut world, "node1");
    world.drain("node1", 600_000, true);
    world.ticks(20);
    has(&mut world, "node1", &[]);
    has(&mut world, "node2", &[(VOLUME, 9)]);
    comes_back(&mut world, "node2");
}

#[test]
fn a_volume_without_a_home_is_where_a_copy_is_and_of_several_where_it_was_made_last() {
    for (made, expected) in [
        ([None, None, Some(3)], "node3"),
        ([Some(3), Some(7), Some(5)], "node2"),
        ([Some(0), None, Some(0)], "node1"),
    ] {
        let mut world = World::new(3);
        for (node, made_ms) in ["node1", "node2", "node3"].iter().zip(made) {
            let there: Vec<_> = made_ms.map(|ms| (VOLUME, ms)).into_iter().collect();
            has(&mut world, node, &there);
        }
        // They look as good as each other but for their names.
        world.apply("web", spec("web:1", 2));
        world.ticks(20);
        world.apply("db", db("db:1"));
        comes_back(&mut world, expected);
        assert_eq!(home(&world), expected);
    }
}

/// What engines call the time that a copy was made changes with its use: the last home counts.
#[test]
fn of_copies_that_were_homes_the_last_home_is_used() {
    let mut world = World::new(2);
    has(&mut world, "node1", &[]);
    has(&mut world, "node2", &[]);
    let nodes = world.desired.nodes.clone();
    let leaves = |world: &mut World, name: &str| {
        world.desired.nodes.remove(&id(name));
        world.ticks(60);
    };
    let joins = |world: &mut World, name: &str| {
        let node = nodes[&id(name)].clone();
        world.desired.nodes.insert(id(name), node);
        world.ticks(60);
    };
    world.apply("db", db("db:1"));
    world.ticks(20);
    let first = home(&world);
    let second = if first == "node1" { "node2" } else { "node1" };
    has(&mut world, &first, &[(VOLUME, 5)]);
    // It begins anew on the other one, comes back to its first copy, and that node leaves and joins.
    leaves(&mut world, &first);
    assert_eq!(home(&world), second);
    has(&mut world, second, &[(VOLUME, 9)]);
    joins(&mut world, &first);
    leaves(&mut world, second);
    assert_eq!(home(&world), first);
    joins(&mut world, second);
    world.desired.apps = Default::default();
    world.ticks(60);
    leaves(&mut world, &first);
    joins(&mut world, &first);
    world.apply("db", db("db:1"));
    comes_back(&mut world, &first);
}

#[test]
fn a_copy_that_was_removed_is_none_whatever_the_last_report_says() {
    let mut world = World::new(2);
    has(&mut world, "node1", &[(VOLUME, 7)]);
    has(&mut world, "node2", &[(VOLUME, 5)]);
    let node = world.desired.nodes.get_mut(&id("node1")).unwrap();
    node.volume_removed(VOLUME.into(), 8);
    world.apply("db", db("db:1"));
    comes_back(&mut world, "node2");
}

#[test]
fn copies_of_two_volumes_meet_where_both_are() {
    let mut world = World::new(2);
    has(&mut world, "node1", &[(VOLUME, 9)]);
    has(&mut world, "node2", &[(VOLUME, 5), ("shop_other", 5)]);
    world.apply("db", with("db:1", 1, &[VOLUME, "shop_other"]));
    comes_back(&mut world, "node2");
}

#[test]
fn copies_that_meet_nowhere_name_each_way_out() {
    let mut world = World::new(2);
    has(&mut world, "node1", &[(VOLUME, 9)]);
    has(&mut world, "node2", &[("shop_other", 5)]);
    world.apply("db", with("db:1", 1, &[VOLUME, "shop_other"]));
    world.ticks(20);
    let why = refused(&world).to_string();
    for node in [
        "controllerctl volume rm shop_data --node node1",
        "controllerctl volume rm shop_other --node node2",
    ] {
        assert!(why.contains(node), "{why}");
    }
}

//! First starts that wait for another service.

use longshore_model::depends::Until;
use longshore_model::*;

use crate::world::*;

fn after(image: &str, replicas: u32, on: &[(&str, Until)]) -> ServiceSpec {
    let on = on.iter();
    ServiceSpec {
        depends_on: on
            .map(|(name, until)| (name.parse().unwrap(), *until))
            .collect(),
        ..spec(image, replicas)
    }
}

fn waits(world: &World, name: &str) -> Vec<String> {
    let waits = world.report.services[&key(name)].waits.iter();
    waits.map(ToString::to_string).collect()
}

#[test]
fn a_first_start_waits_until_each_other_is_what_it_must_be() {
    let mut world = World::new(2);
    world.broken.push("db:0".into());
    world.apply("db", spec("db:0", 1));
    world.apply("cache", spec("cache:1", 1));
    let on = [("cache", Until::Started), ("db", Until::Healthy)];
    world.apply("web", after("web:1", 3, &on));
    world.tick(500);
    assert!(world.active("web").is_empty());
    assert_eq!(
        waits(&world, "web"),
        [
            "its first start waits until cache runs",
            "its first start waits until db is healthy"
        ]
    );
    world.ticks(20);
    assert!(world.active("web").is_empty());
    assert_eq!(
        waits(&world, "web"),
        ["its first start waits until db is healthy"]
    );
    world.apply("db", spec("db:1", 1));
    world.ticks(40);
    assert_eq!(world.answering("web"), 3);
    assert!(waits(&world, "web").is_empty());
}

#[test]
fn what_once_ran_comes_back_without_asking() {
    let mut world = World::new(2);
    world.apply("db", spec("db:1", 1));
    world.apply("web", after("web:1", 2, &[("db", Until::Healthy)]));
    world.ticks(60);
    assert_eq!(world.answering("web"), 2);
    world.scale("web", 0);
    world.ticks(60);
    assert!(world.active("web").is_empty());
    // The other one fails, and does not come back.
    world.broken.push("db:1".into());
    let db = world.active("db")[0].id;
    world.fail(db);
    world.ticks(20);
    assert_eq!(world.answering("db"), 0);
    world.scale("web", 2);
    world.ticks(20);
    assert_eq!(world.answering("web"), 2, "{:?}", waits(&world, "web"));
}

#[test]
fn nobody_waits_for_a_service_of_which_no_replica_is_wanted() {
    let mut world = World::new(1);
    world.apply("db", spec("db:1", 0));
    world.apply("web", after("web:1", 1, &[("db", Until::Healthy)]));
    world.ticks(10);
    assert_eq!(world.answering("web"), 1);
}

#[test]
fn a_service_that_runs_waits_for_nobody_that_its_file_names_later() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.tick(500);
    world.broken.push("db:1".into());
    world.apply("db", spec("db:1", 1));
    world.apply("web", after("web:2", 2, &[("db", Until::Healthy)]));
    world.ticks(40);
    assert_eq!(world.answering("web"), 2);
    let images = world.active("web").into_iter();
    let images: Vec<&str> = images
        .filter_map(|replica| world.plan.template(replica))
        .map(|container| container.image.as_str())
        .collect();
    assert_eq!(images, ["web:2", "web:2"]);
    assert!(waits(&world, "web").is_empty());
}

#[test]
fn a_chain_starts_from_its_end() {
    let mut world = World::new(2);
    world.apply("a", after("a:1", 1, &[("b", Until::Healthy)]));
    world.apply("b", after("b:1", 1, &[("c", Until::Healthy)]));
    world.apply("c", spec("c:1", 2));
    let mut order = Vec::new();
    for _ in 0..40 {
        world.tick(500);
        for name in ["a", "b", "c"] {
            if !world.active(name).is_empty() && !order.contains(&name) {
                order.push(name);
            }
        }
    }
    assert_eq!(order, ["c", "b", "a"]);
}

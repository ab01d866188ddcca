//! Rollouts of services for which the nodes have too few host ports.

use crate::rollouts::{NEW, OLD, of_image, on_host_port, rollout};
use crate::world::*;
use longshore_model::spec::UpdateOrder;
use longshore_model::*;

/// What does not fit is not waited for.
#[test]
fn stop_first_goes_on_where_more_are_wanted_than_host_ports_there_are() {
    for (nodes, least) in [(1, 0), (3, 2)] {
        let stop_first = |image: &str| {
            let mut spec = on_host_port(image, 5);
            spec.update.order = UpdateOrder::StopFirst;
            spec
        };
        let mut world = World::new(nodes);
        world.apply("web", stop_first(OLD));
        world.ticks(40);
        world.apply("web", stop_first(NEW));
        for _ in 0..120 {
            world.tick(500);
            assert!(world.answering("web") >= least, "one at a time");
        }
        assert_eq!(of_image(&world, NEW), nodes);
        assert_eq!(rollout(&world).word(), "done");
    }
}

/// A batch of two that finds one free host port, while all that are wanted are there with it: the
/// old ones stop first for the other.
#[test]
fn a_batch_that_finds_room_for_a_part_of_it_goes_on_stop_first() {
    let of_two = |image: &str| {
        let mut spec = on_host_port(image, 4);
        spec.update.parallelism = 2;
        spec
    };
    let mut world = World::new(4);
    world.available("node1", Availability::Cordoned);
    world.apply("web", of_two(OLD));
    world.ticks(40);
    assert_eq!(of_image(&world, OLD), 3);
    world.available("node1", Availability::Active);
    world.apply("web", of_two(NEW));
    for _ in 0..120 {
        world.tick(500);
        assert!(world.answering("web") >= 3, "one at a time");
    }
    assert_eq!((of_image(&world, NEW), rollout(&world).word()), (4, "done"));
}

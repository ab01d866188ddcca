//! What is said of a replica's end.

use crate::world::*;
use longshore_model::receipt::{Exit, Killed, end_in_words};
use longshore_model::{EventKind, NodeId};

/// How each replica that is gone ended: node, since the order to stop, exit, on a lost node.
fn ends(world: &World) -> Vec<(NodeId, Option<u64>, Option<Exit>, bool)> {
    let events = world.events.iter();
    let ends = events.filter_map(|event| match event {
        EventKind::Gone {
            node,
            after_ms,
            exit,
            lost,
            ..
        } => Some((node.clone(), *after_ms, *exit, *lost)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn it_is_said_as_its_node_saw_it() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    let killed = Exit {
        code: 137,
        after_ms: Some(10_010),
        killed: Some(Killed::Grace),
    };
    for node in ["node1", "node2"] {
        world.node(node).exit = Some(killed);
    }
    world.scale("web", 1);
    world.ticks(12);
    let ends = ends(&world);
    assert_eq!(ends.len(), 1, "{ends:?}");
    let (_, after_ms, exit, lost) = &ends[0];
    assert_eq!((*exit, *lost), (Some(killed), false));
    assert!(
        after_ms.is_some_and(|ms| (500..=2_000).contains(&ms)),
        "{after_ms:?}"
    );
}

#[test]
fn a_node_that_does_not_say_it_is_not_taken_for_lost() {
    let mut world = World::new(2);
    world.apply("web", spec("web:1", 2));
    world.ticks(8);
    for node in ["node1", "node2"] {
        world.node(node).exit = None;
    }
    world.scale("web", 1);
    world.ticks(12);
    let ends = ends(&world);
    assert_eq!(ends.len(), 1, "{ends:?}");
    let (_, after_ms, exit, lost) = &ends[0];
    assert!(after_ms.is_some());
    assert_eq!(
        end_in_words(*exit, *lost),
        "its node did not say how it ended"
    );
}

#[test]
fn of_a_lost_node_nobody_saw_it() {
    let mut world = World::new(4);
    world.apply("web", spec("web:1", 4));
    world.ticks(8);
    world.node("node2").power = false;
    world.ticks(10);
    let ends = ends(&world);
    assert_eq!(ends, [(id("node2"), None, None, true)]);
}

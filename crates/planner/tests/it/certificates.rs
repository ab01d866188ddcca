//! What is said of certificates, and when.

use std::sync::Arc;

use crate::world::*;
use longshore_model::certificate::{
    CertificateObserved, CertificateRefused, CertificateServed, CertificateWanted,
};
use longshore_model::*;

/// A world with two edges and a service that ends TLS.
fn world() -> World {
    let mut world = World::new(2);
    world.add_edge("edge2");
    let mut web = spec("web:1", 2);
    web.routes[0].tls = vec!["cert".to_owned()];
    world.apply("web", web);
    wanted(&mut world, "a");
    for edge in ["edge", "edge2"] {
        serves(&mut world, edge, "a", None);
    }
    world.ticks(20);
    world.events.clear();
    world
}

fn secret() -> SecretKey {
    SecretKey::new(key("web").app, SecretName::new("cert").unwrap())
}

fn wanted(world: &mut World, mark: &str) {
    let wanted = CertificateWanted {
        mark: mark.to_owned(),
        by: "ann".to_owned(),
        ..CertificateWanted::default()
    };
    world.desired.certificates = Arc::new([(secret(), wanted)].into());
}

fn serves(world: &mut World, edge: &str, mark: &str, refused: Option<&str>) {
    let served = CertificateServed {
        mark: mark.to_owned(),
        until_ms: 7,
    };
    let refused = refused.map(|mark| CertificateRefused {
        mark: mark.to_owned(),
        why: "unable to load it".to_owned(),
    });
    let observed = CertificateObserved {
        served: Some(served).filter(|_| !mark.is_empty()),
        refused,
    };
    let edge = world.edges.get_mut(&id(edge)).unwrap();
    edge.certificates = Some([(secret(), observed)].into());
}

/// What was said of certificates since the last call.
fn said(world: &mut World) -> Vec<String> {
    let events = std::mem::take(&mut world.events);
    let ids = |nodes: &std::collections::BTreeSet<NodeId>| {
        let nodes: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
        nodes.join("+")
    };
    let said = events.iter().filter_map(|event| match event {
        EventKind::CertificateRenewed {
            edges, without, by, ..
        } => Some(format!("{} by {by} without {}", ids(edges), ids(without))),
        EventKind::CertificateRefused { node, served, .. } => {
            Some(format!("{node} refuses, served {served}"))
        }
        EventKind::CertificateServed { node, .. } => Some(format!("{node} by now")),
        _ => None,
    });
    said.collect()
}

#[test]
fn a_renewal_is_said_once_all_edges_serve_it() {
    let mut world = world();
    wanted(&mut world, "b");
    world.ticks(2);
    serves(&mut world, "edge", "b", None);
    world.ticks(4);
    assert_eq!(said(&mut world), [""; 0]);
    serves(&mut world, "edge2", "b", None);
    world.ticks(4);
    assert_eq!(said(&mut world), ["edge+edge2 by ann without "]);
    // The first one of an app is no renewal.
    let mut world = self::world();
    assert_eq!(said(&mut world), [""; 0]);
    world.memory = Arc::default();
    world.ticks(4);
    assert_eq!(said(&mut world), [""; 0]);
}

#[test]
fn an_edge_that_refuses_is_said_once_and_the_next_renewal_is_one() {
    let mut world = world();
    wanted(&mut world, "b");
    serves(&mut world, "edge", "b", None);
    serves(&mut world, "edge2", "a", Some("b"));
    world.ticks(6);
    assert_eq!(said(&mut world), ["edge2 refuses, served true"]);
    // What was refused is not what is wanted by now.
    wanted(&mut world, "c");
    serves(&mut world, "edge", "c", None);
    world.ticks(6);
    assert_eq!(said(&mut world), [""; 0]);
    serves(&mut world, "edge2", "a", Some("c"));
    world.ticks(2);
    assert_eq!(said(&mut world), ["edge2 refuses, served true"]);
    serves(&mut world, "edge2", "c", None);
    world.ticks(2);
    assert_eq!(said(&mut world), ["edge+edge2 by ann without "]);
    // Refused from the start: nothing is served.
    let mut world = self::world();
    world.memory = Arc::default();
    serves(&mut world, "edge", "", Some("a"));
    world.ticks(2);
    assert_eq!(said(&mut world), ["edge refuses, served false"]);
}

#[test]
fn an_edge_that_is_away_is_waited_for_no_longer_than_its_lease() {
    let mut world = world();
    wanted(&mut world, "b");
    serves(&mut world, "edge", "b", None);
    world.edges.get_mut(&id("edge2")).unwrap().session = false;
    let lease_ms = world.config.edge_lease_ms;
    let until = world.now + lease_ms / 2;
    while world.now < until {
        world.tick(500);
    }
    assert_eq!(said(&mut world), [""; 0]);
    while world.now < until + lease_ms {
        world.tick(500);
    }
    assert_eq!(said(&mut world), ["edge by ann without edge2"]);
    // Nor one whose agent does not say.
    let mut world = self::world();
    wanted(&mut world, "b");
    serves(&mut world, "edge", "b", None);
    world.edges.get_mut(&id("edge2")).unwrap().certificates = None;
    world.ticks(2);
    assert_eq!(said(&mut world), ["edge by ann without edge2"]);
}

#[test]
fn an_edge_that_was_not_waited_for_is_said_once_it_serves_the_new_one() {
    let mut world = world();
    wanted(&mut world, "b");
    serves(&mut world, "edge", "b", None);
    world.edges.get_mut(&id("edge2")).unwrap().session = false;
    let until = world.now + 2 * world.config.edge_lease_ms;
    while world.now < until {
        world.tick(500);
    }
    assert_eq!(said(&mut world), ["edge by ann without edge2"]);
    world.edges.get_mut(&id("edge2")).unwrap().session = true;
    world.ticks(4);
    assert_eq!(said(&mut world), [""; 0], "it has the one before");
    serves(&mut world, "edge2", "b", None);
    world.ticks(4);
    assert_eq!(said(&mut world), ["edge2 by now"]);
    // With the next renewal it is one of all.
    wanted(&mut world, "c");
    world.ticks(2);
    for edge in ["edge", "edge2"] {
        serves(&mut world, edge, "c", None);
    }
    world.ticks(4);
    assert_eq!(said(&mut world), ["edge+edge2 by ann without "]);
}

#[test]
fn an_edge_that_refused_is_said_once_it_serves_it_after_all() {
    let mut world = world();
    wanted(&mut world, "b");
    serves(&mut world, "edge2", "a", Some("b"));
    world.ticks(4);
    assert_eq!(said(&mut world), ["edge2 refuses, served true"]);
    // The other one has yet to say.
    serves(&mut world, "edge2", "b", None);
    world.ticks(4);
    assert_eq!(said(&mut world), ["edge2 by now"]);
    serves(&mut world, "edge", "b", None);
    world.ticks(4);
    assert_eq!(said(&mut world), ["edge+edge2 by ann without "]);
}

#[test]
fn a_renewal_on_its_way_outlasts_a_new_controller() {
    let mut world = world();
    wanted(&mut world, "b");
    serves(&mut world, "edge", "b", None);
    world.ticks(2);
    world.memory = Arc::default();
    world.ticks(2);
    serves(&mut world, "edge2", "b", None);
    world.ticks(2);
    assert_eq!(said(&mut world), ["edge+edge2 by ann without "]);
}

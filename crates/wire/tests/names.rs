//! What containers reach by name comes back the same; what comes in wrong is refused with its field.
// Helpers of tests fail a test by a panic, too.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use longshore_model::ReplicaId;
use longshore_model::names::{Named, NamedReplica, Names};
use longshore_proto::agent::v1 as pb;
use longshore_wire::{self as wire, Fence};

fn names() -> Names {
    let replica = |id, node: &str, peer_port| NamedReplica {
        replica: ReplicaId(id),
        node: node.parse().unwrap(),
        address: "10.0.0.4".parse().unwrap(),
        peer_port,
    };
    let address = Ipv4Addr::new(10, 213, 0, 7);
    let redis = Named {
        address,
        ports: [6379, 16379].into(),
        replicas: vec![replica(4, "a", 7447), replica(9, "b", 0)],
        hosts: [("redis".to_owned(), address)].into(),
        drain_ms: 30_000,
    };
    Names {
        generation: 8,
        services: [("shop/redis".parse().unwrap(), redis)].into(),
        revoked: ["0a1b".to_owned()].into(),
    }
}

#[test]
fn names_come_back_the_same_and_wrong_ones_are_refused() {
    let fence = Fence {
        cluster_generation: 1,
        term: 4,
    };
    let sent = wire::names_to_pb(&names(), fence);
    assert_eq!(wire::names_from_pb(sent.clone()), Ok((fence, names())));
    let refused = |change: fn(&mut pb::Named)| {
        let mut sent = sent.clone();
        change(&mut sent.services[0]);
        wire::names_from_pb(sent).unwrap_err().to_string()
    };
    for (change, field) in [
        (
            (|named| named.address = "::1".into()) as fn(&mut pb::Named),
            "address",
        ),
        (|named| named.ports.push(0), "ports"),
        (|named| named.ports.resize(65, 80), "ports"),
        (|named| named.replicas[0].peer_port = 70_000, "peer_port"),
        (
            |named| drop(named.hosts.insert("a b".into(), "10.213.0.1".into())),
            "hosts",
        ),
        (
            |named| drop(named.hosts.insert("a".into(), "nowhere".into())),
            "hosts",
        ),
        (
            |named| drop(named.hosts.insert("a".repeat(300), "10.213.0.1".into())),
            "hosts",
        ),
    ] {
        let why = refused(change);
        assert!(why.contains(field), "{field}: {why}");
    }
    let mut many = sent;
    many.revoked_serials = vec!["0a".into(); 4_097];
    assert!(wire::names_from_pb(many).is_err());
}

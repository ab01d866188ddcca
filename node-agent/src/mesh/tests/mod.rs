//! Real sockets on loopback addresses; see `rig`.

mod rig;
mod trust;

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use longshore_model::ReplicaId;
use longshore_model::names::NamedReplica;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use self::rig::{
    Node, ca, call, connect, container, echo, foreign_listener, fresh, patient, service, until,
};
use super::*;

fn at_name(port: u16) -> SocketAddr {
    SocketAddr::from((fresh(), port))
}

/// A caller's node, another one with replica 1, and the name.
async fn pair(limits: Limits) -> (Node, Node, SocketAddr) {
    let ca = ca();
    let here = Node::start(&ca, "a", limits).await;
    let mut there = Node::start(&ca, "b", limits).await;
    let address = fresh();
    let port = container((address, 0), 1).port();
    there.local(1, address, true);
    there.list(port);
    let name = at_name(port);
    here.direct(name, &[there.named(1)]);
    (here, there, name)
}

#[tokio::test]
async fn a_replica_of_this_node_is_dialled_directly() {
    let mut here = Node::start(&ca(), "a", patient()).await;
    let address = fresh();
    let port = container((address, 0), 7).port();
    here.local(7, address, true);
    let name = at_name(port);
    // Nobody takes other agents' connections there: only the direct way works.
    let mut named = here.named(7);
    named.peer_port = 0;
    here.direct(name, &[named]);
    let (mut stream, tag) = call(name).await;
    assert_eq!(tag, 7);
    echo(&mut stream).await;
    assert_eq!(here.doors.connections(ReplicaId(7)), 1);
    drop(stream);
    let doors = Arc::clone(&here.doors);
    until("its end is noticed", || doors.counts().is_empty()).await;
    assert_eq!(here.mesh.taken(&service()), 0);
}

#[tokio::test]
async fn ten_mebibytes_go_both_ways_and_one_end_may_end_first() {
    let (_here, there, name) = pair(patient()).await;
    let (stream, tag) = call(name).await;
    assert_eq!(tag, 1);
    assert_eq!(
        there.doors.connections(ReplicaId(1)),
        1,
        "counted at its own node"
    );
    let sent: Vec<u8> = (0..10 << 20).map(|n: u32| (n ^ (n >> 11)) as u8).collect();
    let (mut read, mut write) = stream.into_split();
    let data = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&data).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut heard = Vec::new();
    read.read_to_end(&mut heard).await.unwrap();
    assert!(heard == sent, "{} bytes came back", heard.len());
    drop(writer.await.unwrap());
    until("its end is noticed", || there.doors.counts().is_empty()).await;
}

#[tokio::test]
async fn connections_outlive_changes_of_the_directory() {
    let (here, there, name) = pair(patient()).await;
    let (mut stream, _) = call(name).await;
    here.direct(name, &[]);
    echo(&mut stream).await;
    here.direct_nowhere();
    echo(&mut stream).await;
    let refused = async {
        while TcpStream::connect(name).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused)
        .await
        .expect("a name that is gone is not served");
    echo(&mut stream).await;
    here.direct(name, &[there.named(1)]);
    echo(&mut call(name).await.0).await;
    echo(&mut stream).await;
}

#[tokio::test]
async fn who_stops_is_gone_or_refuses_is_passed_over_unnoticed() {
    let ca = ca();
    let mut here = Node::start(&ca, "a", patient()).await;
    let mut there = Node::start(&ca, "b", patient()).await;
    let [stopping, good, empty, here_too] = [fresh(), fresh(), fresh(), fresh()];
    let port = container((stopping, 0), 1).port();
    container((good, port), 2);
    container((here_too, port), 4);
    there.list(port);
    there.local(1, stopping, true);
    there.local(2, good, true);
    there.local(3, empty, true);
    here.local(4, here_too, false);
    let name = at_name(port);
    let all = [
        there.named(1),
        there.named(2),
        there.named(3),
        here.named(4),
        there.named(5),
    ];
    here.direct(name, &all);
    let mut tags = Vec::new();
    let mut open = Vec::new();
    for _ in 0..8 {
        let (stream, tag) = call(name).await;
        tags.push(tag);
        open.push(stream);
    }
    assert_eq!(tags.iter().filter(|tag| **tag == 1).count(), 4, "{tags:?}");
    there.local(1, stopping, false);
    for _ in 0..8 {
        let (mut stream, tag) = call(name).await;
        assert_eq!(tag, 2);
        echo(&mut stream).await;
    }
    for stream in &mut open {
        echo(stream).await;
    }
    assert_eq!(
        there.doors.connections(ReplicaId(1)),
        4,
        "they stay until they end"
    );
}

#[tokio::test]
async fn a_node_that_does_not_answer_costs_one_try() {
    let ca = ca();
    let hasty = Limits {
        attempt: Duration::from_millis(500),
        ..patient()
    };
    let here = Node::start(&ca, "a", hasty).await;
    let mut there = Node::start(&ca, "b", hasty).await;
    let address = fresh();
    let port = container((address, 0), 4).port();
    there.local(4, address, true);
    there.list(port);
    // As a node without power: connections to it are taken by nobody's program.
    let dead = Node::start(&ca, "c", hasty).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at_silent = |id| NamedReplica {
        peer_port: silent.local_addr().unwrap().port(),
        ..dead.named(id)
    };
    let name = at_name(port);
    let all = [at_silent(1), at_silent(2), at_silent(3), there.named(4)];
    here.direct(name, &all);
    assert_eq!(call(name).await.1, 4);
    silent.accept().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(50), silent.accept());
    assert!(second.await.is_err(), "the other two were tried as well");
}

#[tokio::test]
async fn a_drain_waits_for_the_last_and_what_is_left_is_cut() {
    let (_here, mut there, name) = pair(patient()).await;
    let ((first, _), (mut second, _)) = (call(name).await, call(name).await);
    let container = fresh();
    there.local(1, container, false);
    drop(first);
    until("one is left", || there.doors.connections(ReplicaId(1)) == 1).await;
    echo(&mut second).await;
    there.gone(1);
    let cut = second.read_u8().await.unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset, "no orderly end");
    until("none is left", || there.doors.counts().is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_orderly_end() {
    let ca = ca();
    let here = Node::start(&ca, "a", patient()).await;
    let mut there = Node::start(&ca, "b", patient()).await;
    let address = fresh();
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let name = at_name(listener.local_addr().unwrap().port());
    there.local(1, address, true);
    there.list(name.port());
    here.direct(name, &[there.named(1)]);
    let mut client = connect(name).await;
    let (mut container, _) = listener.accept().await.unwrap();
    client.write_all(b"x").await.unwrap();
    container.read_u8().await.unwrap();
    reset(container);
    let broken = client.read_u8().await.unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
    // And the other way.
    let client = connect(name).await;
    let (mut container, _) = listener.accept().await.unwrap();
    reset(client);
    let broken = container.read_u8().await.unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn without_a_replica_it_waits_for_one_and_then_gives_up() {
    let (here, there, name) = pair(patient()).await;
    here.direct(name, &[]);
    let early = tokio::spawn(call(name));
    let mesh = Arc::clone(&here.mesh);
    until("it waits", || mesh.taken(&service()) == 1).await;
    here.direct(name, &[there.named(1)]);
    assert_eq!(
        early.await.unwrap().1,
        1,
        "the first replica takes what waits"
    );

    let hasty = Limits {
        patience: Duration::from_millis(50),
        ..patient()
    };
    let (here, _there, name) = pair(hasty).await;
    here.direct(name, &[]);
    let given_up = connect(name).await.read_u8().await.unwrap_err();
    assert_eq!(given_up.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn beyond_the_limits_it_refuses_and_counts() {
    for limits in [
        Limits {
            connections_max: 2,
            ..patient()
        },
        Limits {
            service_max: 2,
            ..patient()
        },
    ] {
        let (here, _there, name) = pair(limits).await;
        let (first, _second) = (call(name).await, call(name).await);
        let third = connect(name).await.read_u8().await.unwrap_err();
        assert_eq!(third.kind(), ErrorKind::ConnectionReset);
        assert_eq!(here.mesh.refused(), 1);
        drop(first);
        let mesh = Arc::clone(&here.mesh);
        until("one is over", || mesh.taken(&service()) == 1).await;
        call(name).await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_and_tried_again() {
    let (here, there, first) = pair(patient()).await;
    call(first).await;
    let name = at_name(first.port());
    let taken = foreign_listener(name, false);
    here.direct(name, &[there.named(1)]);
    let mesh = Arc::clone(&here.mesh);
    until("it is said", || !mesh.problems().is_empty()).await;
    let said = mesh.problems().join("\n");
    assert!(
        said.contains("demo/redis") && said.contains("another program"),
        "{said}"
    );
    drop(taken);
    until("it is served", || mesh.problems().is_empty()).await;
    assert_eq!(call(name).await.1, 1);
}

#[tokio::test]
async fn a_program_that_shares_its_port_may_have_it_on_all_addresses() {
    let (_here, _there, name) = pair(patient()).await;
    call(name).await;
    // As HAProxy does on a node that is an edge as well, after a reload.
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, name.port()));
    let _haproxy = foreign_listener(everywhere, true);
    for _ in 0..8 {
        assert_eq!(call(name).await.1, 1, "the more exact address wins");
    }
}

#[tokio::test]
async fn an_address_outside_the_range_is_not_listened_on() {
    let (here, there, name) = pair(patient()).await;
    call(name).await;
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, name.port()));
    here.direct(everywhere, &[there.named(1)]);
    let mesh = Arc::clone(&here.mesh);
    until("it is said", || !mesh.problems().is_empty()).await;
    assert!(mesh.problems().join("").contains("names_range"));
    here.direct(name, &[there.named(1)]);
    until("it is right again", || mesh.problems().is_empty()).await;
}

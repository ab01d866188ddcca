//! Who may speak with an agent's port for other agents.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::SystemTime;

use longshore_identity::key::KeyPair;
use longshore_identity::tls::{CertHolder, NodeStream};
use longshore_identity::{Identity, OperatorRole};
use longshore_model::names::NamedReplica;
use longshore_model::{ReplicaId, Roles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::super::*;
use super::rig::{Node, ca, call, certs, connect, echo, node_id, patient, tls};
use super::{pair, rig};

/// What a caller gets that asks for replica 1: the answer, or an error.
async fn ask(tls: &NodeTls, at: SocketAddr) -> io::Result<u8> {
    ask_for(tls, at, 80).await
}

async fn ask_for(tls: &NodeTls, at: SocketAddr, port: u16) -> io::Result<u8> {
    let tcp = TcpStream::connect(at).await?;
    let mut peer = tls.dial(&node_id("b"), tcp).await?;
    let mut head = vec![1, 0, 0, 0, 0, 0, 0, 0, 1];
    head.extend(port.to_be_bytes());
    peer.stream.write_all(&head).await?;
    peer.stream.flush().await?;
    peer.stream.read_u8().await
}

#[tokio::test]
async fn only_nodes_of_this_cluster_are_served() {
    let (ours, theirs) = (ca(), ca());
    let there = Node::start(&ours, "b", patient()).await;
    let node = Identity::Node(node_id("a"));
    let good = tls(&ours, certs(&ours, &node));
    assert_eq!(ask(&good, there.peers).await.unwrap(), 2, "it is not there");
    let operator = Identity::Operator {
        name: "ana".into(),
        role: OperatorRole::Admin,
    };
    let revoked = certs(&ours, &node);
    there.mesh.trust().revoke([rig::serial(&revoked)]);
    for (who, certs, alert) in [
        ("a foreign node", certs(&theirs, &node), "UnknownCA"),
        ("an operator", certs(&ours, &operator), "AccessDenied"),
        (
            "a controller",
            certs(&ours, &Identity::Controller("c1".into())),
            "AccessDenied",
        ),
        ("a revoked node", revoked, "Revoked"),
        ("a late node", rig::over(&ours, &node), "Expired"),
    ] {
        let refused = ask(&tls(&ours, certs), there.peers).await.expect_err(who);
        assert!(refused.to_string().contains(alert), "{who}: {refused}");
    }
    // Nor does a node of ours speak with one that is late, or with a foreign one.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, late) = (listener.local_addr().unwrap(), Identity::Node(node_id("b")));
    let late = tls(&ours, rig::over(&ours, &late));
    let answer = async { late.accept(listener.accept().await.unwrap().0).await };
    let (refused, _) = tokio::join!(ask(&good, at), answer);
    let refused = refused.expect_err("a late node");
    assert!(refused.to_string().contains("Expired"), "{refused}");
    let foreign = Node::start(&theirs, "b", patient()).await;
    let refused = ask(&good, foreign.peers).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn a_port_that_the_directory_does_not_have_is_not_reached() {
    let ca = ca();
    let mut there = Node::start(&ca, "b", patient()).await;
    // As a replica in the host's network: another program's port is at the same address.
    let address = rig::fresh();
    let other = rig::container((address, 0), 9).port();
    let port = rig::container((address, 0), 1).port();
    there.local(1, address, true);
    let tls = tls(&ca, certs(&ca, &Identity::Node(node_id("a"))));
    let ask = |port| ask_for(&tls, there.peers, port);
    assert_eq!(ask(port).await.unwrap(), 2, "nothing is listed yet");
    there.list(port);
    assert_eq!(ask(port).await.unwrap(), 0);
    assert_eq!(ask(other).await.unwrap(), 2);
    there.direct_nowhere();
    assert_eq!(ask(port).await.unwrap(), 2);
}

#[tokio::test]
async fn edges_call_nobody_and_are_not_called() {
    let ca = ca();
    let there = Node::start(&ca, "b", patient()).await;
    let edge = Roles {
        worker: false,
        edge: true,
    };
    let both = Roles {
        worker: true,
        ..edge
    };
    let node_of = |name: &str, roles: Roles| {
        let key = KeyPair::generate().unwrap();
        let csr = key.csr_der(name).unwrap();
        let identity = Identity::Node(node_id(name));
        let now = SystemTime::now();
        let der = ca.issue_from_csr(&csr, &identity, roles, &[], rig::DAY, now);
        let text = data_encoding::BASE64.encode(&der.unwrap());
        let chain = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        tls(&ca, CertHolder::from_pem(&chain, &key.pem()).unwrap())
    };
    assert_eq!(ask(&node_of("e", both), there.peers).await.unwrap(), 2);
    let refused = ask(&node_of("e", edge), there.peers).await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    // And the other way.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (caller, called) = (node_of("a", both), node_of("b", edge));
    let answer = async { called.accept(listener.accept().await.unwrap().0).await };
    let (asked, _) = tokio::join!(ask(&caller, at), answer);
    assert!(asked.is_err());
}

#[tokio::test]
async fn who_fills_its_places_leaves_those_of_others() {
    let ca = ca();
    let limits = Limits {
        greetings_max: 4,
        ..patient()
    };
    let there = Node::start(&ca, "b", limits).await;
    let good = tls(&ca, certs(&ca, &Identity::Node(node_id("a"))));
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(connect(there.peers).await);
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((rig::fresh(), 0).into()).unwrap();
    let tcp = socket.connect(there.peers).await.unwrap();
    let asked = async {
        let mut peer = good.dial(&node_id("b"), tcp).await?;
        let head = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80];
        peer.stream.write_all(&head).await?;
        peer.stream.flush().await?;
        peer.stream.read_u8().await
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), asked).await;
    assert_eq!(answer.expect("no place is left").unwrap(), 2);
    // The bound is its own only as long as it needs it.
    drop(silent);
    for _ in 0..1_000 {
        match ask(&good, there.peers).await {
            Ok(answer) => return assert_eq!(answer, 2),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("its places are not given back");
}

#[tokio::test]
async fn another_node_in_the_place_of_the_right_one_gets_nothing() {
    let ca = ca();
    let other = Node::start(&ca, "c", patient()).await;
    let good = tls(&ca, certs(&ca, &Identity::Node(node_id("a"))));
    let refused = ask(&good, other.peers).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(
        refused
            .to_string()
            .contains("node c answers where b should"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_another_node_does_not_confirm_ends_the_connection_at_both_ends() {
    let ca = ca();
    let tls_of = |name: &str| tls(&ca, certs(&ca, &Identity::Node(node_id(name))));
    let (here, there) = (tls_of("a"), tls_of("b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let named = NamedReplica {
        replica: ReplicaId(1),
        node: node_id("b"),
        address: at.ip(),
        peer_port: at.port(),
    };
    let bound = |peer: &NodeStream| SockRef::from(peer.stream.get_ref().0).tcp_user_timeout();
    let answer = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let (mut peer, ..) = peer::greet(&there, tcp).await.unwrap();
        peer.stream.write_u8(0).await.unwrap();
        peer.stream.flush().await.unwrap();
        bound(&peer).unwrap()
    };
    let dialled = async { bound(&peer::dial(&here, &named, 80).await.unwrap()).unwrap() };
    let two_minutes = Some(Duration::from_secs(120));
    assert_eq!(tokio::join!(dialled, answer), (two_minutes, two_minutes));
}

#[tokio::test]
async fn a_revoked_node_loses_the_connections_that_it_has() {
    for cut_by_server in [true, false] {
        let (here, there, name) = pair(patient()).await;
        let (mut stream, _) = call(name).await;
        echo(&mut stream).await;
        if cut_by_server {
            there.mesh.trust().revoke([here.serial.clone()]);
        } else {
            here.mesh.trust().revoke([there.serial.clone()]);
        }
        let cut = stream.read_u8().await.unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
        rig::until("counted out", || there.doors.connections(ReplicaId(1)) == 0).await;
    }
}

#[tokio::test]
async fn whoever_is_slow_to_say_what_it_wants_is_closed() {
    let hasty = Limits {
        greeting: Duration::from_millis(100),
        greetings_max: 4,
        ..patient()
    };
    let ca = ca();
    let there = Node::start(&ca, "b", hasty).await;
    let good = tls(&ca, certs(&ca, &Identity::Node(node_id("a"))));
    // Silent from the start, and in the middle of its head; as many as one address has places.
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(connect(there.peers).await);
    }
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }
    let mut halting = Vec::new();
    for _ in 0..2 {
        let tcp = connect(there.peers).await;
        let mut peer = good.dial(&node_id("b"), tcp).await.unwrap();
        peer.stream.write_all(&[1, 0, 0]).await.unwrap();
        peer.stream.flush().await.unwrap();
        halting.push(peer);
    }
    for peer in &mut halting {
        assert!(peer.stream.read_u8().await.is_err());
    }
    assert_eq!(
        ask(&good, there.peers).await.unwrap(),
        2,
        "others are served"
    );
}

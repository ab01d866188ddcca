//! Names of services, from the controller's word to a container's list of hosts.

use std::net::Ipv4Addr;

use longshore_identity::tls::NodeTls;
use longshore_model::names::{Named, NamedReplica};
use longshore_wire::names_to_pb;

use super::*;
use crate::mesh::{Limits, Mesh, Parts};

/// The data path of an agent whose range is another than the usual one. It listens on nothing.
pub(super) fn handle(identity: &NodeIdentity) -> mesh::Handle {
    let trust = TrustHolder::new(&identity.ca_pem, HashSet::new()).unwrap();
    let (sender, names) = watch::channel(Arc::default());
    let mesh = Mesh::new(Parts {
        node: identity.file.node.clone(),
        tls: NodeTls::new(Arc::clone(&identity.certs), trust).unwrap(),
        doors: Arc::default(),
        names,
        range: "10.77.0.0/16".parse().unwrap(),
        callers: Vec::new(),
        limits: Limits::default(),
    });
    mesh::Handle {
        names: sender,
        mesh: Arc::new(mesh),
        peer_port: 7_447,
    }
}

fn names(generation: u64, revoked: &[&str]) -> Names {
    let address = Ipv4Addr::new(10, 213, 0, 7);
    let web = Named {
        address,
        ports: [80].into(),
        replicas: vec![NamedReplica {
            replica: ReplicaId(3),
            node: "w2".parse().unwrap(),
            address: "127.0.0.1".parse().unwrap(),
            peer_port: 7_447,
        }],
        hosts: [("web".to_owned(), address)].into(),
        drain_ms: 5_000,
    };
    Names {
        generation,
        services: [(replica(1).service, web)].into(),
        revoked: revoked.iter().map(|serial| (*serial).to_owned()).collect(),
    }
}

impl Peer {
    async fn name(&self, term: u64, names: &Names) {
        let fence = Fence {
            cluster_generation: 1,
            term,
        };
        self.send(ToAgent::Names(names_to_pb(names, fence))).await;
    }
}

async fn joined(cluster: &Cluster) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    join(&options(cluster, dir.path())).await.unwrap();
    dir
}

#[tokio::test]
async fn names_reach_containers_and_the_data_path_and_outlive_the_agent() {
    let mut cluster = cluster().await;
    let dir = joined(&cluster).await;
    let agent = start(dir.path(), FakeRuntime::with_images(&["hello:1"]));
    let mut peer = cluster.session().await;
    assert_eq!(peer.welcome().await.peer_port, 7_447);
    peer.name(1, &names(4, &["0a0b"])).await;
    peer.assign(1, 1, &[portless(1)]).await;
    let report = peer
        .report("healthy", |report| {
            let mut all = report.replicas.iter();
            all.any(|r| r.state == ReplicaState::Healthy && !r.exposed.is_empty())
        })
        .await;
    assert_eq!(report.replicas[0].exposed, [6379].into());
    // In the range of this node.
    let here = Ipv4Addr::new(10, 77, 0, 7);
    let told = agent.runtime.state().hosts.clone();
    assert_eq!(told, [[("web".to_owned(), here)].into()]);
    let directory = agent.names.borrow().clone();
    let web = &directory.services[&replica(1).service];
    assert_eq!((web.address, web.replicas.len()), (here, 1));
    assert!(agent.mesh.trust().is_revoked("0a0b"));
    drop(agent);

    let agent = start(dir.path(), FakeRuntime::with_images(&["hello:1"]));
    assert_eq!(*agent.names.borrow(), directory);
    assert!(agent.mesh.trust().is_revoked("0a0b"), "also on disk");
}

#[tokio::test]
async fn names_of_an_older_leader_are_refused_and_a_new_one_counts_anew() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::default()).await;
    peer.name(3, &names(9, &[])).await;
    peer.name(2, &names(10, &["0a0b"])).await;
    let refused = peer
        .until("refusal", |message| match message {
            FromAgent::Refused(refused) => Some(refused),
            _ => None,
        })
        .await;
    assert!(refused.what.starts_with("names"), "{refused:?}");
    assert_eq!(refused.have_generation, 9);
    assert!(!agent.mesh.trust().is_revoked("0a0b"));
    peer.name(4, &names(1, &["0c"])).await;
    let mut told = agent.names.clone();
    let told = timeout(SOON, told.wait_for(|names| names.generation == 1));
    assert!(told.await.expect("never told").is_ok());
    assert!(agent.mesh.trust().is_revoked("0c"));
}

#[tokio::test]
async fn what_does_not_work_is_reported() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::default()).await;
    agent.mesh.complain("no way");
    let report = peer.report("problem", |report| !report.problems.is_empty());
    let report = report.await;
    assert_eq!(report.problems, ["no way"]);
    assert!(report.time_ms.is_some(), "doctor compares clocks");
}

#[tokio::test]
async fn the_configuration_of_haproxy_is_shown_without_its_secret() {
    let (_agent, mut peer, dir, _cluster) = rig(FakeRuntime::default()).await;
    let open = |stream_id| {
        ToAgent::OpenStream(pb::OpenStream {
            stream_id,
            kind: Some(pb::open_stream::Kind::ProxyConfig(pb::ProxyConfigStream {})),
        })
    };
    let end = |message| match message {
        FromAgent::StreamEnd(end) => Some(end),
        _ => None,
    };
    peer.send(open(1)).await;
    let missing = peer.until("end", end).await.error;
    assert!(missing.contains("haproxy.cfg cannot be read"), "{missing}");
    let text = "backend b\n    dynamic-cookie-key 0123abcd\n    server s1\n";
    std::fs::write(dir.path().join("haproxy.cfg"), text).unwrap();
    peer.send(open(2)).await;
    let data = |message| match message {
        FromAgent::StreamData(data) => Some(data),
        _ => None,
    };
    let shown = peer.until("file", data).await.data;
    let wanted = "backend b\n    dynamic-cookie-key (hidden)\n    server s1\n";
    assert_eq!(String::from_utf8(shown).unwrap(), wanted);
    assert_eq!(peer.until("end", end).await.error, "");
    // Nobody drives HAProxy here.
    let kind = Some(pb::open_stream::Kind::ProxyWanted(pb::ProxyWantedStream {}));
    let stream_id = 3;
    peer.send(ToAgent::OpenStream(pb::OpenStream { stream_id, kind }))
        .await;
    let why = peer.until("end", end).await.error;
    assert!(why.contains("driver has ended"), "{why}");
}

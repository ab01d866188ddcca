//! Replicas that an operator keeps out of the routes: who may, which, and how long it holds.

use longshore_proto::agent::v1::{Server, ServerMode};
use longshore_proto::control::v1 as pb;
use tonic::{Code, Status};

use crate::support::{FakeAgent, Lab, Told, app};

async fn set(
    lab: &Lab,
    replicas: &[&str],
    traffic: pb::ReplicaTraffic,
    force: bool,
) -> Result<pb::SetReplicaTrafficResponse, Status> {
    let request = pb::SetReplicaTrafficRequest {
        replicas: replicas.iter().map(|name| (*name).to_owned()).collect(),
        traffic: traffic.into(),
        message: "disk swap".into(),
        force,
    };
    let answer = lab.admin.clone().set_replica_traffic(request).await?;
    Ok(answer.into_inner())
}

async fn apply(lab: &Lab, app: pb::App) {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..pb::ApplyAppRequest::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
}

async fn replicas(lab: &Lab) -> Vec<pb::Replica> {
    let all = pb::ListReplicasRequest::default();
    let list = lab.admin.clone().list_replicas(all).await.unwrap();
    list.into_inner().replicas
}

fn modes(told: &Told) -> Vec<ServerMode> {
    let routes = told.routes.iter();
    let backends = routes.flat_map(|routes| &routes.backends);
    let servers = backends.flat_map(|backend| &backend.servers);
    servers.map(Server::mode).collect()
}

/// The last one that serves, and what is no replica.
async fn refused(lab: &Lab) {
    use pb::ReplicaTraffic::Drain;
    let last = set(lab, &["web.1"], Drain, false).await.unwrap_err();
    assert_eq!(last.code(), Code::FailedPrecondition);
    assert!(
        last.message().contains("nobody else of hello/web"),
        "{last}"
    );
    for (words, code) in [
        (&["web"][..], Code::InvalidArgument),
        (&["web.7"], Code::NotFound),
        (&[], Code::InvalidArgument),
    ] {
        let refused = set(lab, words, Drain, false).await.unwrap_err();
        assert_eq!(refused.code(), code, "{words:?}: {refused}");
    }
}

/// Who said it and why is where operators look.
async fn known(lab: &Lab) {
    let kept = lab
        .until("it is known", async |_| {
            let all = replicas(lab).await;
            let kept = all
                .iter()
                .find(|r| r.aside.is_some() && r.state == "healthy");
            kept.cloned().ok_or(format!("{all:?}"))
        })
        .await;
    let said = kept.aside.unwrap();
    assert_eq!(
        (kept.name.as_str(), kept.traffic.as_str()),
        ("web.2", "drain")
    );
    assert_eq!(said.why, "disk swap");
    assert_eq!(
        kept.reason,
        format!("kept out of the routes by {}: disk swap", said.by)
    );
    let services = lab
        .admin
        .clone()
        .list_services(pb::ListServicesRequest {})
        .await;
    let service = services.unwrap().into_inner().services.remove(0);
    assert_eq!((service.aside, service.wanted), (1, 2));
    assert!(
        service.waits[0].contains("slot 2 gets nothing new"),
        "{service:?}"
    );
    let why = pb::WhyRequest {
        target: "web.2".into(),
        at_ms: 0,
    };
    let lines = lab.admin.clone().why(why).await.unwrap().into_inner().lines;
    let line = lines
        .iter()
        .find(|line| line.contains("kept out of the routes since"));
    assert!(line.is_some(), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_drain_it_until_somebody_lets_it_back_whatever_restarts() {
    use pb::ReplicaTraffic::{Drain, Serve};
    let lab = Lab::start().await;
    let mut edge = lab.node("edge", false, true).await;
    let a = lab.node("a", true, false).await;
    apply(&lab, app("hello", "web", 80, 2)).await;
    lab.until_serving("web", 2).await;
    let done = set(&lab, &["web.2"], Drain, false).await.unwrap();
    assert_eq!(
        (done.replicas, done.changed),
        (vec!["hello/web.2".into()], true)
    );
    let half = [ServerMode::Serve, ServerMode::Drain];
    edge.until_told("one drains", |told| modes(told) == half)
        .await;
    let again = set(&lab, &["web.2"], Drain, false).await.unwrap();
    assert!(!again.changed, "said twice is said once");

    refused(&lab).await;

    let held = a.told.borrow().assignment.clone().unwrap();
    let (edge_certs, a_certs) = (edge.kill().await, a.kill().await);
    let lab = lab.restart().await;
    let mut edge = FakeAgent::start(&lab, "edge", edge_certs, true).await;
    let _a = FakeAgent::resume(&lab, "a", a_certs, false, &held).await;
    edge.until_told("it still drains", |told| modes(told) == half)
        .await;
    known(&lab).await;

    let back = set(&lab, &["web.2"], Serve, false).await.unwrap();
    assert!(back.changed);
    lab.until_serving("web", 2).await;
    let all = replicas(&lab).await;
    assert!(all.iter().all(|r| r.aside.is_none()), "{all:?}");
    set(&lab, &["web.1", "web.2"], Drain, true).await.unwrap();
    let none = [ServerMode::Drain, ServerMode::Drain];
    edge.until_told("both drain", |told| modes(told) == none)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_no_edge_is_refused_and_an_app_that_went_leaves_nothing() {
    use pb::ReplicaTraffic::Drain;
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let mut jobs = app("jobs", "jobs", 81, 1);
    jobs.services.get_mut("jobs").unwrap().routes.clear();
    apply(&lab, jobs).await;
    apply(&lab, app("hello", "web", 80, 2)).await;
    lab.until_serving("web", 2).await;
    lab.until_serving("jobs", 1).await;
    let refused = set(&lab, &["jobs.1"], Drain, true).await.unwrap_err();
    assert!(refused.message().contains("behind no edge"), "{refused}");
    set(&lab, &["web.1"], Drain, false).await.unwrap();
    let down = pb::DownAppRequest {
        app: "hello".into(),
    };
    lab.admin.clone().down_app(down).await.unwrap();
    apply(&lab, app("hello", "web", 80, 2)).await;
    let lab = lab.restart().await;
    let service = lab
        .admin
        .clone()
        .list_services(pb::ListServicesRequest {})
        .await;
    let services = service.unwrap().into_inner().services;
    assert!(
        services.iter().all(|service| service.aside == 0),
        "{services:?}"
    );
}

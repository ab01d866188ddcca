//! Services by name, over the API and the sessions of workers.

use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;

use crate::support::{FakeAgent, Lab, Told, app};

/// Two services without ways in: `web` on every node, one `redis`.
fn shop() -> pb::App {
    let mut app = app("shop", "web", 80, 2);
    let web = app.services.get_mut("web").unwrap();
    web.routes.clear();
    let mut redis = web.clone();
    redis.replicas = 1;
    redis.container.as_mut().unwrap().ports.clear();
    app.services.insert("redis".into(), redis);
    app
}

async fn apply(lab: &Lab, app: pb::App) -> pb::ApplyAppResponse {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..Default::default()
    };
    let answer = lab.admin.clone().apply_app(request).await;
    answer.unwrap().into_inner()
}

fn named(told: &Told, service: &str) -> Option<agent::Named> {
    let names = told.names.as_ref()?;
    let found = names.services.iter().find(|named| named.service == service);
    found.cloned()
}

async fn until_listed(worker: &mut FakeAgent, service: &str, count: usize) -> agent::Named {
    let told = worker.until_told("replicas by name", |told| {
        named(told, service).is_some_and(|named| named.replicas.len() == count)
    });
    named(&told.await, service).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_find_each_other_and_keep_their_addresses() {
    let lab = Lab::start().await;
    let mut a = lab.node("a", true, false).await;
    let mut b = lab.node("b", true, false).await;
    let edge = lab.node("edge", false, true).await;
    apply(&lab, shop()).await;
    lab.until_serving("web", 2).await;
    lab.until_serving("redis", 1).await;
    let web = until_listed(&mut a, "shop/web", 2).await;
    let redis = until_listed(&mut a, "shop/redis", 1).await;
    assert_eq!((web.ports, web.drain_ms), (vec![6379, 8080], 1_000));
    assert_eq!(redis.ports, [6379], "its image's");
    assert_eq!(redis.replicas[0].peer_port, 7447);
    assert_ne!(redis.address, web.address);
    let hosts = [("web", &web.address), ("redis", &redis.address)];
    let hosts = hosts.map(|(name, address)| (name.to_owned(), address.clone()));
    assert_eq!(web.hosts, hosts.into());
    assert_eq!(
        until_listed(&mut b, "shop/redis", 1).await.address,
        redis.address
    );
    assert!(edge.told.borrow().names.is_none(), "edges take no part");

    // One that goes is off the list before it is told to stop.
    let scale = pb::ScaleRequest {
        service: "shop/web".into(),
        count: 1,
        ..Default::default()
    };
    lab.admin.clone().scale(scale).await.unwrap();
    until_listed(&mut a, "shop/web", 1).await;
    lab.until_serving("web", 1).await;

    // A new process keeps the addresses, and says all that is known before it has heard of all nodes.
    let generation = a.told.borrow().names.clone().unwrap().generation;
    assert!(generation > 0);
    let lab = lab.restart().await;
    let mut a = FakeAgent::start(&lab, "a", a.kill().await, false).await;
    b.kill().await;
    a.until_told("its assignment", |told| told.assignment.is_some())
        .await;
    let again = until_listed(&mut a, "shop/redis", 1).await;
    assert_eq!((again.address, again.ports), (redis.address, redis.ports));
    let again = until_listed(&mut a, "shop/web", 1).await;
    assert_eq!(again.address, web.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_is_known_at_once_and_changes_nothing_that_runs() {
    let lab = Lab::start().await;
    let mut a = lab.node("a", true, false).await;
    let mut without = shop();
    without.services.remove("redis");
    apply(&lab, without).await;
    lab.until_serving("web", 2).await;
    let ran = a.told.borrow().assignment.clone().unwrap();
    let plan = pb::PlanAppRequest {
        app: Some(shop()),
        ..Default::default()
    };
    let planned = lab.admin.clone().plan_app(plan).await.unwrap().into_inner();
    let said = planned.warnings.join("\n");
    assert!(said.contains("names (redis)"), "{said}");
    assert!(said.contains("controllerctl restart shop/web"), "{said}");
    apply(&lab, shop()).await;
    lab.until_serving("redis", 1).await;
    let web = until_listed(&mut a, "shop/web", 2).await;
    assert_eq!(web.hosts.len(), 2, "for replicas that are made later");
    let runs = a.told.borrow().assignment.clone().unwrap().replicas;
    assert_eq!(runs[..2], ran.replicas);

    // Gone and back, it has the same address.
    let redis = until_listed(&mut a, "shop/redis", 1).await;
    let mut without = shop();
    without.services.remove("redis");
    apply(&lab, without).await;
    a.until_told("no redis", |told| named(told, "shop/redis").is_none())
        .await;
    apply(&lab, shop()).await;
    let back = until_listed(&mut a, "shop/redis", 1).await;
    assert_eq!(back.address, redis.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_certificates_reach_workers_and_their_problems_operators() {
    let lab = Lab::start().await;
    let mut a = lab.node("a", true, false).await;
    let _b = lab.node("b", true, false).await;
    let told = a.until_told("names", |told| told.names.is_some()).await;
    assert!(told.names.unwrap().revoked_serials.is_empty());
    let remove = pb::RemoveNodeRequest {
        node: "b".into(),
        force: true,
    };
    lab.admin.clone().remove_node(remove).await.unwrap();
    a.until_told("who is refused", |told| {
        told.names
            .as_ref()
            .is_some_and(|n| n.revoked_serials.len() == 1)
    })
    .await;

    a.ails
        .lock()
        .unwrap()
        .push("no way to 10.213.0.0/16".into());
    lab.until("the problem", async |mut admin| {
        let list = admin.list_nodes(pb::ListNodesRequest {}).await.unwrap();
        let nodes = list.into_inner().nodes;
        match nodes.iter().any(|node| !node.problems.is_empty()) {
            true => {
                let said = nodes[0].advice.join("; ");
                assert!(said.starts_with("little disk; its clock is "), "{said}");
                Ok(())
            }
            false => Err(format!("{nodes:?}")),
        }
    })
    .await;
    let status = lab.admin.clone().get_status(pb::GetStatusRequest {}).await;
    let problems = status.unwrap().into_inner().problems;
    let said = problems
        .iter()
        .any(|problem| problem.about == "a" && problem.message.contains("10.213.0.0/16"));
    assert!(said, "{problems:?}");
    let why = pb::WhyRequest {
        target: "node/a".into(),
        ..Default::default()
    };
    let why = lab.admin.clone().why(why).await.unwrap().into_inner();
    assert!(
        why.lines.join("\n").contains("no way to 10.213.0.0/16"),
        "{why:?}"
    );
}

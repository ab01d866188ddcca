//! What `plan` says before anything is applied: where new replicas would go, what is exchanged, what
//! finds no place.

use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;

use crate::support::{Lab, app};

async fn planned(lab: &Lab, app: pb::App) -> pb::PlanAppResponse {
    let request = pb::PlanAppRequest {
        app: Some(app),
        ..pb::PlanAppRequest::default()
    };
    let answer = lab.admin.clone().plan_app(request).await.unwrap();
    answer.into_inner()
}

async fn applied(lab: &Lab, app: pb::App) {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..pb::ApplyAppRequest::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
}

async fn until_ready(lab: &Lab, nodes: u32) {
    lab.until("all are ready", async |mut admin| {
        let status = admin.get_status(pb::GetStatusRequest {}).await.unwrap();
        let status = status.into_inner();
        let all = status.nodes_ready == nodes;
        all.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
}

async fn cordon(lab: &Lab, node: &str) {
    let request = pb::SetNodeAvailabilityRequest {
        node: node.into(),
        availability: pb::NodeAvailability::Cordoned.into(),
        ..Default::default()
    };
    let answer = lab.admin.clone().set_node_availability(request).await;
    answer.unwrap();
}

/// web with two replicas, db with one that web waits for.
fn shop() -> pb::App {
    let mut shop = app("shop", "web", 80, 2);
    shop.services.extend(app("shop", "db", 5432, 1).services);
    let web = shop.services.get_mut("web").unwrap();
    web.depends_on.insert("db".into(), 2);
    let container = web.container.as_mut().unwrap();
    container.env.insert("TOKEN".into(), "swordfish".into());
    let resources = container.resources.as_mut().unwrap();
    resources.cpu_limit_milli = 500;
    resources.memory_limit_bytes = 256 << 20;
    shop
}

fn of<'p>(
    plan: &'p pb::PlanAppResponse,
    service: &str,
) -> (&'p pb::Change, &'p pb::ServiceForecast) {
    let change = plan.changes.iter().find(|c| c.service == service);
    let change = change.unwrap_or_else(|| panic!("{plan:?}"));
    (change, change.forecast.as_ref().unwrap())
}

fn nodes(forecast: &pb::ServiceForecast) -> Vec<(&str, u32)> {
    let shares = forecast.nodes.iter();
    shares.map(|s| (s.node.as_str(), s.replicas)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_where_replicas_would_go_and_what_an_exchange_takes() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let _b = lab.node("b", true, false).await;
    until_ready(&lab, 3).await;

    // New: who waits for another service has its place, too.
    let plan = planned(&lab, shop()).await;
    let (web, forecast) = of(&plan, "web");
    assert_eq!((forecast.wanted, forecast.created), (2, 2), "{plan:?}");
    assert_eq!(nodes(forecast), [("a", 1), ("b", 1)], "{plan:?}");
    let said = [
        "image hello:1",
        "port 80 -> 8080 (http)",
        "limits 0.5 CPU, 256 MiB",
        "env TOKEN",
    ];
    assert_eq!(web.details, said);
    assert!(!format!("{plan:?}").contains("swordfish"), "{plan:?}");
    let placement = plan.placement.unwrap();
    assert_eq!((placement.created, placement.peak_replicas), (3, 0));
    let mut admin = lab.admin.clone();
    let nothing = admin.list_services(pb::ListServicesRequest {}).await;
    assert!(nothing.unwrap().into_inner().services.is_empty());

    applied(&lab, shop()).await;
    lab.until_serving("db", 1).await;
    lab.until_serving("web", 2).await;
    // Another image, one more, and db goes.
    let mut next = shop();
    next.services.remove("db");
    let web = next.services.get_mut("web").unwrap();
    web.depends_on.clear();
    web.replicas = 3;
    web.container.as_mut().unwrap().image = "hello:2".into();
    let plan = planned(&lab, next.clone()).await;
    let (_, web) = of(&plan, "web");
    let counts = (web.before, web.wanted, web.created, web.replaced);
    assert_eq!(counts, (2, 3, 1, 2), "{plan:?}");
    assert_eq!((web.order.as_str(), web.at_once), ("start-first", 1));
    assert_eq!(web.nodes.len(), 1, "{plan:?}");
    assert_eq!(of(&plan, "db").1.removed, 1);
    let all = plan.placement.unwrap();
    let counts = (all.replaced, all.created, all.removed, all.peak_replicas);
    assert_eq!(counts, (2, 1, 1, 1));
    let peak = (
        all.peak_cpu_milli,
        all.peak_memory_bytes,
        all.peak_unlimited,
    );
    assert_eq!(peak, (500, 256 << 20, false));

    // Both old ones stop first: nothing is extra.
    let web = next.services.get_mut("web").unwrap();
    web.update.as_mut().unwrap().order = 2;
    let plan = planned(&lab, next.clone()).await;
    assert_eq!(of(&plan, "web").1.order, "stop-first", "{plan:?}");
    assert_eq!(plan.placement.unwrap().peak_replicas, 0);

    // Nobody can follow, whichever order: it is said before, not by a rollout that stands still.
    for node in ["a", "b"] {
        cordon(&lab, node).await;
    }
    for order in [1, 2] {
        let web = next.services.get_mut("web").unwrap();
        web.update.as_mut().unwrap().order = order;
        web.replicas = 2;
        let plan = planned(&lab, next.clone()).await;
        let (_, web) = of(&plan, "web");
        assert_eq!((web.replaced, web.exchange_unplaced), (2, true), "{plan:?}");
        assert!(web.waits.join(";").contains("cordoned"), "{plan:?}");
    }

    // What still runs of before a rollout that stands still is not replaced by the way back.
    applied(&lab, next).await;
    let plan = planned(&lab, shop()).await;
    let (change, web) = of(&plan, "web");
    assert_eq!((change.action.as_str(), web.replaced), ("change", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_finds_no_place() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let _b = lab.node("b", true, false).await;
    until_ready(&lab, 2).await;
    // Every node here has one of that name: which one is used is said before.
    let mut left = app("left", "db", 82, 1);
    let container = left.services.get_mut("db").unwrap().container.as_mut();
    container.unwrap().mounts.push(spec::Mount {
        source: "left_data".into(),
        target: "/data".into(),
        ..spec::Mount::default()
    });
    let plan = planned(&lab, left).await;
    let said = "db: of volume left_data the copy on a is used, not that on b; to use another one, \
                first: controllerctl volume rm left_data --node a";
    assert!(plan.warnings.iter().any(|line| line == said), "{plan:?}");
    // More than the nodes have.
    let mut large = app("big", "web", 81, 3);
    let web = large.services.get_mut("web").unwrap();
    let resources = web.container.as_mut().unwrap().resources.as_mut();
    resources.unwrap().memory_reserved_bytes = 6 << 30;
    let plan = planned(&lab, large).await;
    let (_, web) = of(&plan, "web");
    assert_eq!((web.created, web.unplaced), (3, 1), "{plan:?}");
    assert!(web.waits.join(";").contains("0 of "), "{plan:?}");
}

/// What counts and restarts come to, of the services that are named; nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn counts_and_restarts_are_forecast_before_they_are_set() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let _b = lab.node("b", true, false).await;
    applied(&lab, shop()).await;
    applied(&lab, app("blog", "db", 81, 1)).await;
    lab.until_serving("web", 2).await;
    lab.until("blog/db serves", async |mut admin| {
        let all = admin.list_services(pb::ListServicesRequest {}).await;
        let all = all.unwrap().into_inner().services;
        let serves = all.iter().any(|s| s.key == "blog/db" && s.serving == 1);
        serves.then_some(()).ok_or(format!("{all:?}"))
    })
    .await;
    let plan = async |counts: &[(&str, u32)], restart: &[&str]| {
        let count = |(service, count): &(&str, u32)| pb::ServiceCount {
            service: (*service).into(),
            count: *count,
            hold_ms: 0,
        };
        let request = pb::PlanServicesRequest {
            counts: counts.iter().map(count).collect(),
            restart: restart.iter().map(ToString::to_string).collect(),
        };
        let answer = lab.admin.clone().plan_services(request).await;
        answer.map(|answer| answer.into_inner().apps)
    };
    // Services of two apps, and none but these.
    let apps = plan(&[("web", 0), ("blog/db", 2)], &[]).await.unwrap();
    let names: Vec<&str> = apps.iter().map(|app| app.app.as_str()).collect();
    assert_eq!(names, ["blog", "shop"]);
    let shop = apps[1].plan.as_ref().unwrap();
    let (web, forecast) = of(shop, "web");
    assert_eq!((web.action.as_str(), shop.changes.len()), ("change", 1));
    let counts = (forecast.before, forecast.wanted, forecast.removed);
    assert_eq!(counts, (2, 0, 2), "{shop:?}");
    assert_eq!(shop.placement.as_ref().unwrap().removed, 2);
    let (_, db) = of(apps[0].plan.as_ref().unwrap(), "db");
    assert_eq!((db.created, db.nodes.len()), (1, 1), "{db:?}");

    let apps = plan(&[], &["web", "shop/db"]).await.unwrap();
    let shop = apps[0].plan.as_ref().unwrap();
    let (_, web) = of(shop, "web");
    assert_eq!((web.replaced, web.order.as_str()), (2, "start-first"));
    assert_eq!(of(shop, "db").1.replaced, 1, "{shop:?}");

    // What would be refused is refused here.
    for (counts, restart, words) in [
        (&[("db", 1)][..], &[][..], "say which: blog/db, shop/db"),
        (&[("web", 99_999)], &[], "at most"),
        (&[], &["web", "blog/db"], "are two apps"),
        (&[], &["wbe"], "did you mean web?"),
    ] {
        let status = plan(counts, restart).await.unwrap_err();
        assert!(status.message().contains(words), "{status:?}");
    }
    let mut admin = lab.admin.clone();
    let services = admin.list_services(pb::ListServicesRequest {}).await;
    let services = services.unwrap().into_inner().services;
    let web = services.iter().find(|s| s.name == "web").unwrap();
    assert_eq!((web.wanted, web.revision), (2, 1), "nothing was changed");
}

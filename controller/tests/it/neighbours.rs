//! Who sees and waits for whom, at the API.

use std::collections::BTreeSet;

use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;

use crate::support::{Lab, app};

async fn apply(lab: &Lab, app: pb::App) -> Result<pb::ApplyAppResponse, tonic::Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..Default::default()
    };
    let answer = lab.admin.clone().apply_app(request).await;
    answer.map(tonic::Response::into_inner)
}

fn change(app: &mut pb::App, service: &str, change: impl FnOnce(&mut spec::ServiceSpec)) {
    change(app.services.get_mut(service).unwrap());
}

fn back(aliases: &[&str]) -> Vec<spec::Attachment> {
    vec![spec::Attachment {
        network: "back".into(),
        aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
    }]
}

async fn replicas(lab: &Lab) -> BTreeSet<u64> {
    let request = pb::ListReplicasRequest::default();
    let list = lab.admin.clone().list_replicas(request).await.unwrap();
    let replicas = list.into_inner().replicas.into_iter();
    replicas.map(|replica| replica.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_nowhere_or_to_two_are_refused_and_new_ones_replace_nobody() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let mut shop = app("shop", "web", 80, 2);
    change(&mut shop, "web", |web| {
        web.links.insert("store".into(), "db".into());
    });
    let refused = apply(&lab, shop.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "shop/web: links name db, which is not in the app"
    );
    change(&mut shop, "web", |web| {
        web.links.clear();
        web.depends_on
            .insert("web".into(), spec::Until::Healthy.into());
    });
    let refused = apply(&lab, shop.clone()).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "shop/web: depends_on is a circle: web -> web"
    );
    change(&mut shop, "web", |web| web.depends_on.clear());
    let first = apply(&lab, shop.clone()).await.unwrap();
    lab.until_serving("web", 2).await;
    let before = replicas(&lab).await;

    change(&mut shop, "web", |web| web.networks = back(&["www"]));
    let request = pb::PlanAppRequest {
        app: Some(shop.clone()),
        ..Default::default()
    };
    let plan = lab.admin.clone().plan_app(request).await.unwrap();
    let details = &plan.into_inner().changes[0].details;
    assert_eq!(details, &["networks: null -> {\"back\":[\"www\"]}"]);
    let second = apply(&lab, shop.clone()).await.unwrap();
    assert_eq!((first.revision, second.revision), (1, 2));
    lab.until_serving("web", 2).await;
    assert_eq!(replicas(&lab).await, before, "a template changed");
}

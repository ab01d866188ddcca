//! An app's name stands for all its services.

use longshore_proto::control::v1 as pb;
use tonic::Code;

use crate::support::{Lab, app};

async fn apply(lab: &Lab, app: pb::App) {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..pb::ApplyAppRequest::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
}

/// Names of apps that are names of services, too, or of a node.
async fn apps(lab: &Lab) {
    let mut shop = app("shop", "shop", 80, 1);
    shop.services.extend(app("shop", "web", 81, 2).services);
    apply(lab, shop).await;
    apply(lab, app("blog", "db", 82, 1)).await;
    apply(lab, app("other", "web", 83, 1)).await;
    apply(lab, app("web", "x", 84, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_all_its_services_and_an_ambiguous_name_says_the_choices() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let _blog = lab.node("blog", true, false).await;
    apps(&lab).await;
    lab.until("all are planned", async |mut admin| {
        let all = admin.list_replicas(pb::ListReplicasRequest::default());
        let all = all.await.unwrap().into_inner().replicas.len();
        (all == 6).then_some(()).ok_or(all.to_string())
    })
    .await;
    let replicas = async |word: &str| {
        let request = pb::ListReplicasRequest {
            services: vec![word.into()],
        };
        let answer = lab.admin.clone().list_replicas(request).await?;
        let mut services: Vec<String> = answer
            .into_inner()
            .replicas
            .into_iter()
            .map(|r| r.service)
            .collect();
        services.dedup();
        Ok::<_, tonic::Status>(services)
    };
    // It has a service of its own name, and another one.
    assert_eq!(replicas("shop").await.unwrap(), ["shop/shop", "shop/web"]);
    assert_eq!(
        replicas("app/shop").await.unwrap(),
        ["shop/shop", "shop/web"]
    );
    assert_eq!(replicas("service/shop").await.unwrap(), ["shop/shop"]);
    assert_eq!(replicas("shop/web").await.unwrap(), ["shop/web"]);
    assert_eq!(replicas("app/blog").await.unwrap(), ["blog/db"]);
    for (word, choices) in [
        (
            "web",
            "say which: app/web, service/other/web, service/shop/web",
        ),
        ("blog", "say which: app/blog, node/blog"),
    ] {
        let said = replicas(word).await.unwrap_err();
        assert_eq!(said.code(), Code::InvalidArgument);
        assert!(said.message().contains(choices), "{said:?}");
    }
    let said = replicas("app/shpo").await.unwrap_err();
    assert!(said.message().contains("did you mean shop?"), "{said:?}");

    let why = pb::WhyRequest {
        target: "shop".into(),
        at_ms: 0,
    };
    let why = lab.admin.clone().why(why).await.unwrap().into_inner();
    assert_eq!(why.target, "shop");
    for service in ["shop/shop", "shop/web"] {
        let is_its = |line: &&String| line.starts_with(service);
        assert_eq!(
            why.lines.iter().filter(is_its).count(),
            1,
            "{:?}",
            why.lines
        );
    }
    let logs = pb::LogsRequest {
        targets: vec!["web".into()],
        ..pb::LogsRequest::default()
    };
    let said = lab.admin.clone().logs(logs).await.unwrap_err();
    assert!(said.message().contains("say which: app/web"), "{said:?}");
}

//! One replica on each node, over the real loop: nodes come and go, and nobody sets a count.

use crate::support::{Lab, app};
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use tonic::Code;

fn global(replicas: u32) -> pb::App {
    let mut app = app("mon", "exporter", 9_100, replicas);
    for service in app.services.values_mut() {
        service.mode = spec::ServiceMode::Global.into();
    }
    app
}

async fn apply(lab: &Lab, app: pb::App) -> Result<(), tonic::Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        check_revision: None,
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.map(|_| ())
}

async fn why(lab: &Lab) -> String {
    let request = pb::WhyRequest {
        target: "exporter".into(),
        at_ms: 0,
    };
    let answer = lab.admin.clone().why(request).await.unwrap();
    answer.into_inner().lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_has_one_and_a_drain_takes_it_away() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let refused = apply(&lab, global(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("deploy.replicas"), "{refused}");

    apply(&lab, global(0)).await.unwrap();
    lab.until_serving("exporter", 1).await;
    let _b = lab.node("b", true, false).await;
    lab.until_serving("exporter", 2).await;
    assert!(why(&lab).await.contains("because one on each of 2 nodes"));

    let request = pb::ScaleRequest {
        service: "exporter".into(),
        count: 5,
        hold_ms: 0,
    };
    let refused = lab.admin.clone().scale(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("mode: global"), "{refused}");

    let drain = pb::SetNodeAvailabilityRequest {
        node: "b".into(),
        availability: pb::NodeAvailability::Draining.into(),
        ..Default::default()
    };
    lab.admin
        .clone()
        .set_node_availability(drain)
        .await
        .unwrap();
    lab.until_serving("exporter", 1).await;
    let why = why(&lab).await;
    assert!(
        why.contains("one on each of 1 node; b not: draining"),
        "{why}"
    );
}

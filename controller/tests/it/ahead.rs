//! Images that nodes fetch before they need them: ordered by hand, asked for, told, shown.

use longshore_identity::tls::{ServerTrust, connect};
use longshore_proto::control::v1 as control;
use longshore_proto::images::v1 as pb;
use longshore_proto::images::v1::image_source_service_client::ImageSourceServiceClient;
use tonic::Code;

use crate::images::{Image, push};
use crate::support::Lab;

async fn shown(lab: &Lab) -> Vec<control::NodeImage> {
    let request = control::ListNodesRequest {};
    let nodes = lab.admin.clone().list_nodes(request).await.unwrap();
    let mut nodes = nodes.into_inner().nodes.into_iter();
    nodes.find(|node| node.id == "w1").unwrap().images_ahead
}

fn seen(image: &pb::AheadImage, state: pb::AheadState, detail: &str) -> pb::AheadSeen {
    pb::AheadSeen {
        image: Some(image.clone()),
        state: state.into(),
        detail: detail.into(),
    }
}

#[tokio::test]
async fn a_node_is_told_at_once_what_somebody_asks_for_and_says_how_it_goes() {
    let lab = Lab::start().await;
    let agent = lab.node("w1", true, false).await;
    let (_, pushed) = push(&lab, "tool:1", &Image::new(b"a")).await;
    let fetch = |nodes: &[&str], name: &str| {
        let request = pb::FetchImageRequest {
            name: name.into(),
            nodes: nodes.iter().map(ToString::to_string).collect(),
        };
        let mut images = lab.images.clone();
        async move { images.fetch_image(request).await }
    };
    for (nodes, name, code, words) in [
        (
            &["w1", "w2"][..],
            "tool:1",
            Code::NotFound,
            "there is no node \"w2\"",
        ),
        (&["w1"][..], "tool:2", Code::NotFound, "push it first"),
    ] {
        let refused = fetch(nodes, name).await.unwrap_err();
        let said = (refused.code(), refused.message());
        assert!(said.0 == code && said.1.contains(words), "{refused}");
    }
    assert!(shown(&lab).await.is_empty(), "nothing half ordered");
    let trust = ServerTrust::Ca(lab.ca.clone());
    let channel = connect(&lab.url, Some(agent.certs.clone()), trust)
        .await
        .unwrap();
    let node = ImageSourceServiceClient::new(channel);
    let ask = |seen: Vec<pb::AheadSeen>, wait_ms: u32| {
        let mut node = node.clone();
        let request = pb::ListAheadRequest { seen, wait_ms };
        async move { node.list_ahead(request).await.unwrap().into_inner().images }
    };
    // Waits for it: longer than this test would.
    let waits = tokio::spawn(ask(Vec::new(), 20_000));
    lab.until("the engine is known", async |_| {
        match fetch(&["w1"], "tool:1").await {
            Ok(_) => Ok(()),
            Err(refused) => Err(refused.to_string()),
        }
    })
    .await;
    let told = waits.await.unwrap();
    let first = told
        .first()
        .expect("it came back without the order")
        .clone();
    assert_eq!(
        (&*first.image, first.digest.as_deref()),
        ("tool:1", Some(&*pushed.manifest_digest))
    );
    let image = shown(&lab).await.remove(0);
    assert_eq!((&*image.state, &*image.why), ("ordered", "asked"));
    assert!(!image.by.is_empty());
    ask(vec![seen(&first, pb::AheadState::Failed, "no room")], 0).await;
    let image = shown(&lab).await.remove(0);
    assert_eq!((&*image.state, &*image.detail), ("failed", "no room"));
    let again = fetch(&["w1"], "tool:1").await.unwrap().into_inner();
    assert_eq!(again.manifest_digest, pushed.manifest_digest);
    let image = shown(&lab).await.remove(0);
    assert_eq!(image.state, "ordered", "a failure of before is no answer");
    let second = ask(
        vec![seen(&first, pb::AheadState::Failed, "no room")],
        20_000,
    )
    .await;
    assert!(second[0].asked_ms > first.asked_ms);
    ask(vec![seen(&second[0], pb::AheadState::Here, "")], 0).await;
    assert_eq!(shown(&lab).await.remove(0).state, "here");
}

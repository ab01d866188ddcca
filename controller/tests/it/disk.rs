//! What takes room, as nodes say it, and volumes.

use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use tonic::Code;

use crate::support::{Lab, app};

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_is_asked_and_one_that_is_away_is_said() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let b = lab.node("b", true, false).await;
    let _edge = lab.node("edge", false, true).await;
    let mut shop = app("shop", "web", 80, 1);
    let container = shop.services.get_mut("web").unwrap().container.as_mut();
    container.unwrap().mounts.push(spec::Mount {
        source: "shop_data".into(),
        target: "/data".into(),
        ..Default::default()
    });
    let request = pb::ApplyAppRequest {
        app: Some(shop),
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
    b.kill().await;
    lab.until("b is away", async |_| {
        let link = lab.controller.fleet.link(&"b".parse().unwrap());
        link.is_none().then_some(()).ok_or("connected".to_owned())
    })
    .await;
    let ask = async |nodes: &[&str], sizes| {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        let request = pb::DiskUseRequest { nodes, sizes };
        let told = lab.admin.clone().disk_use(request).await?;
        Ok::<_, tonic::Status>(told.into_inner())
    };
    let told = ask(&[], true).await.unwrap();
    let problems = told
        .nodes
        .iter()
        .map(|n| (n.node.as_str(), n.problem.as_str()));
    let expected = [("a", ""), ("b", "it is not connected")];
    assert_eq!(problems.collect::<Vec<_>>(), expected);
    assert!(told.store_bytes > 0);
    let a = &told.nodes[0];
    assert_eq!(
        (a.disk_bytes, a.disk_free_bytes, a.images.is_some()),
        (100, 40, true)
    );
    let volumes = a
        .named
        .iter()
        .map(|v| (v.name.as_str(), v.services.as_slice()));
    let web = ["shop/web".to_owned()];
    let expected: [(&str, &[String]); 2] = [("shop_data", &web), ("shop_old", &[])];
    assert_eq!(volumes.collect::<Vec<_>>(), expected);
    let told = ask(&["a"], false).await.unwrap();
    assert_eq!((told.nodes.len(), told.nodes[0].images), (1, None));
    assert_eq!(ask(&["c"], false).await.unwrap_err().code(), Code::NotFound);

    let remove = async |name: &str| {
        let request = pb::RemoveVolumeRequest {
            node: "a".into(),
            name: name.into(),
        };
        lab.admin.clone().remove_volume(request).await
    };
    assert!(remove("shop_old").await.is_ok());
    let refused = remove("shop_data").await.unwrap_err();
    assert_eq!(refused.message(), "a: in use by shop/web.1");
}

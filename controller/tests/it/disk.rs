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

fn scaling() -> spec::AutoscaleSpec {
    spec::AutoscaleSpec {
        min: 1,
        max: 3,
        metrics: vec![spec::Metric {
            signal: spec::Signal::NodeCpu.into(),
            target: 0.5,
            ..Default::default()
        }],
        window_ms: 1_000,
        scale_up: Some(spec::Behavior::default()),
        scale_down: Some(spec::Behavior::default()),
        on_missing: spec::OnMissing::Hold.into(),
        mode: spec::AutoscaleMode::On.into(),
        ..Default::default()
    }
}

/// One replica with a volume of its app.
fn with_files() -> pb::App {
    let mut shop = app("shop", "web", 80, 1);
    let container = shop.services.get_mut("web").unwrap().container.as_mut();
    container.unwrap().mounts.push(spec::Mount {
        source: "shop_files".into(),
        target: "/files".into(),
        ..Default::default()
    });
    shop
}

/// A volume's home is over with its data, and a node is not taken away with it unsaid.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_data_is_only_removed_once_that_is_given_up() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let shop = with_files();
    let apply = async |app: pb::App| {
        let request = pb::ApplyAppRequest {
            app: Some(app),
            ..Default::default()
        };
        lab.admin.clone().apply_app(request).await
    };
    apply(shop.clone()).await.unwrap();
    let homes = async |wanted: usize| {
        lab.until("homes", async |_| {
            let there = lab.controller.view().plan.homes.len();
            (there == wanted)
                .then_some(())
                .ok_or(format!("{there} homes"))
        })
        .await;
    };
    homes(1).await;
    lab.until("it is held", async |mut admin| {
        let nodes = admin.list_nodes(pb::ListNodesRequest {}).await;
        let node = nodes.unwrap().into_inner().nodes.remove(0);
        let held = node.held.join(", ");
        let fine = held == "shop/web (its volume shop_files is there)" && node.held_replicas == 1;
        fine.then_some(()).ok_or(held)
    })
    .await;
    // More than one replica would all be there.
    let mut scaled = shop.clone();
    let web = scaled.services.get_mut("web").unwrap();
    web.autoscale = Some(scaling());
    let refused = apply(scaled).await.unwrap_err();
    assert!(refused.message().contains("x-shared"), "{refused}");
    let down = pb::DownAppRequest { app: "shop".into() };
    lab.admin.clone().down_app(down).await.unwrap();
    lab.until("nothing runs", async |_| {
        let left = lab.controller.view().plan.replicas().count();
        (left == 0).then_some(()).ok_or(format!("{left} left"))
    })
    .await;
    let remove_node = async || {
        let request = pb::RemoveNodeRequest {
            node: "a".into(),
            force: false,
        };
        lab.admin.clone().remove_node(request).await
    };
    let refused = remove_node().await.unwrap_err();
    assert!(
        refused.message().contains("the data of shop_files")
            && refused.message().contains("volume rm VOLUME --node a"),
        "{refused}"
    );
    let request = pb::RemoveVolumeRequest {
        node: "a".into(),
        name: "shop_files".into(),
    };
    lab.admin.clone().remove_volume(request).await.unwrap();
    homes(0).await;
    remove_node().await.unwrap();
}

/// Nothing drains a node that is not there: what does work is said, and what it gives up.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_removed_by_force_and_what_went_is_named() {
    let lab = Lab::start().await;
    let a = lab.node("a", true, false).await;
    let request = pb::ApplyAppRequest {
        app: Some(with_files()),
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
    lab.until("its home is a", async |mut admin| {
        let nodes = admin.list_nodes(pb::ListNodesRequest {}).await;
        let volumes = nodes.unwrap().into_inner().nodes.remove(0).volumes;
        let expected = [pb::NodeVolume {
            name: "shop_files".into(),
            services: vec!["shop/web".into()],
            copies: Vec::new(),
        }];
        (volumes == expected)
            .then_some(())
            .ok_or(format!("{volumes:?}"))
    })
    .await;
    let remove = async |force| {
        let request = pb::RemoveNodeRequest {
            node: "a".into(),
            force,
        };
        lab.admin.clone().remove_node(request).await
    };
    let refused = remove(false).await.unwrap_err();
    let words = "moves what has no data there; of the rest save what is needed";
    assert!(refused.message().contains(words), "{refused}");
    a.kill().await;
    lab.until("a is away", async |_| {
        let link = lab.controller.fleet.link(&"a".parse().unwrap());
        link.is_none().then_some(()).ok_or("connected".to_owned())
    })
    .await;
    let refused = remove(false).await.unwrap_err();
    let said = refused.message();
    assert!(!said.contains("drain it first"), "{said}");
    for part in [
        "a has 1 replica and the data of shop_files (of shop/web)",
        "not connected, so nothing drains it",
        "controllerctl node rm a --force, which gives that data up",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let given_up = remove(true).await.unwrap().into_inner().given_up;
    assert_eq!(given_up[0].services, ["shop/web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_volume_is_not_removed() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let mut shop = with_files();
    let container = shop.services.get_mut("web").unwrap().container.as_mut();
    container.unwrap().mounts[0].options = Some(spec::MountOptions {
        external: true,
        ..Default::default()
    });
    let request = pb::ApplyAppRequest {
        app: Some(shop),
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
    let request = pb::RemoveVolumeRequest {
        node: "a".into(),
        name: "shop_files".into(),
    };
    let refused = lab.admin.clone().remove_volume(request).await.unwrap_err();
    let words = "external to shop/web: it is made and removed by hand";
    assert!(refused.message().contains(words), "{refused}");
}

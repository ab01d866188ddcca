//! `node rm`: what goes with a node.

use longshore_proto::control::v1 as pb;

use super::fake::Cluster;
use super::{json, run};

#[test]
fn data_that_goes_with_a_node_is_named_before_and_after() {
    let cluster = Cluster::start();
    let volume = |name: &str, services: &[&str], copies: &[&str]| pb::NodeVolume {
        name: name.into(),
        services: services.iter().map(|s| (*s).to_owned()).collect(),
        copies: copies.iter().map(|s| (*s).to_owned()).collect(),
    };
    cluster.fake.world().nodes.push(pb::Node {
        id: "node2".into(),
        replicas: 1,
        volumes: vec![
            volume("shop_data", &["shop/db", "shop/backup"], &[]),
            volume("shop_old", &[], &["node1"]),
        ],
        ..Default::default()
    });
    let said = [
        "the data of volume shop_data (of shop/db, shop/backup) is given up: what needs it begins \
         with an empty one",
        "the data of volume shop_old is given up: what needs it goes on with the copy on node1",
    ];
    let (code, _, err) = run(&cluster, &["node", "rm", "node2", "--force"]);
    assert_eq!(code, 2, "{err}");
    for words in said {
        assert!(err.contains(words), "{err}");
    }
    assert!(err.contains("1 replica there"), "{err}");
    assert!(cluster.fake.world().calls.is_empty());
    let removed = json(
        &cluster,
        &["node", "rm", "node2", "--force", "-y", "-o", "json"],
    );
    assert_eq!(removed["given_up"][0]["services"][1], "shop/backup");
    let (_, _, err) = run(&cluster, &["node", "rm", "node2", "--force", "-y"]);
    assert_eq!(err.matches(said[0]).count(), 2, "before and after: {err}");
}

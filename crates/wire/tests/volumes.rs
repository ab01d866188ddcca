//! What agents say of volumes.

use longshore_model::NodeId;
use longshore_model::node::Capacity;
use longshore_model::reason::FailReason;
use longshore_wire as wire;

#[test]
fn volumes_of_a_node_are_told_whole_or_not_at_all() {
    let told = |count: u64| {
        let named = (0..count).map(|n| (format!("v{n}"), n));
        let capacity = Capacity {
            volumes: Some(named.collect()),
            ..Default::default()
        };
        let back = wire::capacity_from_pb(wire::capacity_to_pb(&capacity));
        back.volumes.map(|volumes| volumes.len())
    };
    assert_eq!([0, 512, 513].map(told), [Some(0), Some(512), None]);
}

#[test]
fn a_volume_that_is_missing_is_told_with_its_node() {
    let missing = FailReason::VolumeMissing {
        volume: "shop_data".into(),
        node: NodeId::new("node1").unwrap(),
    };
    let told = wire::fail_reason_to_pb(&missing);
    assert_eq!(wire::fail_reason_from_pb(told).unwrap(), missing);
}

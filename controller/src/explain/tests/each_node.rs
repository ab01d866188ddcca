//! A service with one replica on each node.

use longshore_model::reason::EachNode;

use super::*;

fn story(refused: &[(&str, Refusal)], waits: Vec<Reason>) -> String {
    let refusals = refused.iter().cloned();
    let each = EachNode {
        nodes: 3,
        others: u32::try_from(refused.len()).unwrap(),
        refusals: refusals
            .map(|(node, why)| (NodeId::new(node).unwrap(), why))
            .collect(),
        counts: RefusalCount::of(refused.iter().map(|(_, why)| why), 8),
    };
    let report = ServiceReport {
        wanted: 3,
        healthy: 3,
        planned: 3,
        serving: 3,
        scale: ScaleReport {
            reasons: vec![Reason::EachNode(each)],
            ..ScaleReport::default()
        },
        waits,
        ..ServiceReport::default()
    };
    let story = ServiceStory {
        key: &key(),
        report: Some(&report),
        scale: None,
        change: None,
        placement: None,
        rollout: None,
        rollouts_from_ms: None,
        moved: None,
        failures: None,
    };
    said(service(&story, CLOCK))
}

#[test]
fn the_nodes_that_have_none_are_named_with_their_reasons() {
    let text = story(&[("node4", Refusal::Draining)], vec![]);
    assert!(
        text.ends_with("because one on each of 3 nodes; node4 not: draining"),
        "{text}"
    );
    let many = ["node4", "node5", "node6", "node7"].map(|node| (node, Refusal::Cordoned));
    let wait = Reason::RolloutDelays { until_ms: 0 };
    let text = story(&many, vec![wait]);
    assert!(
        text.contains("of 4 others 4 are cordoned\n  node4 not: cordoned\n  node5"),
        "{text}"
    );
    assert!(
        text.contains("\nwaits: pause between two batches"),
        "{text}"
    );
}

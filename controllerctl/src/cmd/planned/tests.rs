use longshore_proto::control::v1 as pb;

use super::*;

fn share(node: &str, replicas: u32) -> pb::NodeShare {
    let node = node.into();
    pb::NodeShare { node, replicas }
}

fn change(action: &str, service: &str, details: &[&str]) -> pb::Change {
    pb::Change {
        action: action.into(),
        service: service.into(),
        details: details.iter().map(|line| (*line).to_owned()).collect(),
        forecast: Some(pb::ServiceForecast::default()),
    }
}

/// An exchange, a new service, one that nothing takes, one that goes.
fn of_all_kinds() -> pb::PlanAppResponse {
    let mut web = change("change", "web", &[r#"container.image: "a" -> "b""#]);
    web.forecast = Some(pb::ServiceForecast {
        before: 4,
        wanted: 5,
        created: 1,
        replaced: 4,
        nodes: vec![share("node2", 1)],
        order: "start-first".into(),
        at_once: 2,
        ..Default::default()
    });
    let mut worker = change("add", "worker", &["image w:1", "env KEY"]);
    worker.forecast = Some(pb::ServiceForecast {
        wanted: 3,
        created: 3,
        nodes: vec![share("node1", 1), share("node3", 1)],
        unplaced: 1,
        waits: vec!["0 of 2 nodes fit".into()],
        ..Default::default()
    });
    let mut cache = change("change", "cache", &["image r:1 -> r:2"]);
    cache.forecast = Some(pb::ServiceForecast {
        before: 1,
        wanted: 1,
        replaced: 1,
        order: "stop-first".into(),
        at_once: 1,
        exchange_unplaced: true,
        waits: vec!["node1 is cordoned".into()],
        ..Default::default()
    });
    let mut old = change("remove", "old", &[]);
    old.forecast.as_mut().unwrap().removed = 2;
    pb::PlanAppResponse {
        revision: 6,
        changes: vec![change("same", "api", &[]), cache, old, web, worker],
        placement: Some(pb::PlanPlacement {
            created: 4,
            replaced: 4,
            removed: 2,
            peak_replicas: 2,
            peak_cpu_milli: 500,
            peak_memory_bytes: 512 << 20,
            peak_unlimited: false,
        }),
        ..Default::default()
    }
}

#[test]
fn a_plan_says_counts_places_and_what_an_exchange_takes() {
    let mut plan = of_all_kinds();
    let text = plan_text(&Plan::new("shop", &plan), "prod");
    let said = r#"app shop  revision 6 -> 7   context prod
  = api     unchanged
  ~ cache   image r:1 -> r:2
            1 replica replaced, stop-first, 1 at a time
            replacements without a place now: node1 is cordoned
  - old     removed, drained first, 2 replicas
  ~ web     container.image: "a" -> "b"
            4 replicas replaced, start-first, 2 at a time
            4 -> 5 replicas  node2 1
  + worker  new service, 3 replicas  node1 1, node3 1
            image w:1
            env KEY
            1 replica without a place now: 0 of 2 nodes fit
Placement: 4 replaced, 4 created, 2 removed. Peak extra during the rollout: 2 replicas, 0.5 CPU, 512 MiB.
"#;
    assert_eq!(text, said);
    // Limits that are not set are no zero.
    let placement = plan.placement.as_mut().unwrap();
    (placement.peak_cpu_milli, placement.peak_memory_bytes) = (0, 0);
    placement.peak_unlimited = true;
    let text = plan_text(&Plan::new("shop", &plan), "prod");
    assert!(
        text.ends_with("rollout: 2 replicas, without limits.\n"),
        "{text}"
    );
    // An older controller says nothing of that.
    plan.placement = None;
    plan.changes.iter_mut().for_each(|c| c.forecast = None);
    let text = plan_text(&Plan::new("shop", &plan), "prod");
    assert!(text.contains("  + worker  image w:1\n"), "{text}");
    assert!(!text.contains("Placement"), "{text}");
}

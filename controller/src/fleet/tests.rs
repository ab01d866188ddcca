use super::*;
use longshore_model::ReplicaId;
use longshore_wire::ReplicaReport;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn replica(state: ReplicaState) -> ReplicaReport {
    ReplicaReport {
        id: ReplicaId(1),
        state,
        reason: None,
        container_id: None,
        started_ago_ms: Some(10),
        healthy_ago_ms: None,
        restarts: 0,
        memory_bytes: 0,
        memory_sample_bytes: None,
        cpu_milli: Some(500.0),
        exit: None,
        exposed: Default::default(),
    }
}

fn report(state: ReplicaState) -> NodeReport {
    NodeReport {
        cpu_ratio: Some(0.5),
        replicas: vec![replica(state)],
        ..NodeReport::default()
    }
}

#[test]
fn a_newer_session_replaces_the_older_one() {
    let fleet = Fleet::default();
    let first = fleet.connect(&node("a"), false, Greeting::default(), 1);
    let second = fleet.connect(&node("a"), false, Greeting::default(), 2);
    assert!(first.ended.is_cancelled());
    assert!(
        !fleet.disconnect(&node("a"), first.id),
        "the old one's end changes nothing"
    );
    assert!(fleet.snapshot().nodes[&node("a")].session.connected);
    assert!(!fleet.node_report(&node("a"), first.id, report(ReplicaState::Healthy), 3));
    assert!(fleet.snapshot().nodes[&node("a")].replicas.is_empty());
    assert!(fleet.disconnect(&node("a"), second.id));
    assert!(!fleet.snapshot().nodes[&node("a")].session.connected);
}

#[test]
fn only_the_last_nonce_counts() {
    let fleet = Fleet::default();
    let session = fleet.connect(&node("a"), true, Greeting::default(), 1);
    fleet.pinged(&node("a"), session.id, 7);
    fleet.pinged(&node("a"), session.id, 8);
    fleet.echoed(&node("a"), session.id, 7, 50);
    assert_eq!(fleet.snapshot().nodes[&node("a")].session.last_echo_ms, 1);
    fleet.echoed(&node("a"), session.id, 8, 60);
    let seen = fleet.snapshot();
    assert_eq!(seen.nodes[&node("a")].session.last_echo_ms, 60);
    assert_eq!(seen.edges[&node("a")].session.last_echo_ms, 60);
}

#[test]
fn reports_become_times_and_bounded_rings() {
    let fleet = Fleet::default();
    let session = fleet.connect(&node("a"), false, Greeting::default(), 1);
    assert!(fleet.node_report(
        &node("a"),
        session.id,
        report(ReplicaState::Starting),
        1_000
    ));
    for at in 0..300 {
        let changed = fleet.node_report(
            &node("a"),
            session.id,
            report(ReplicaState::Starting),
            2_000 + at,
        );
        assert!(!changed, "samples alone are no change");
    }
    let seen = &fleet.snapshot().nodes[&node("a")];
    let status = &seen.replicas[&ReplicaId(1)];
    assert_eq!(status.started_ms, Some(990));
    let cpu_milli = &seen.samples.replicas[&ReplicaId(1)].cpu_milli;
    let cpu_ratio = &seen.samples.cpu_ratio;
    assert_eq!(
        (cpu_ratio.len(), cpu_milli.len()),
        (SAMPLES_MAX, SAMPLES_MAX)
    );
    assert_eq!(cpu_ratio[0].at_ms, 2_300 - SAMPLES_MAX as u64);
    assert!(fleet.node_report(&node("a"), session.id, report(ReplicaState::Healthy), 9_000));
}

#[test]
fn an_edge_that_repeats_itself_adds_no_samples() {
    let fleet = Fleet::default();
    let session = fleet.connect(&node("e"), true, Greeting::default(), 1);
    let key: ServiceKey = "shop/web".parse().unwrap();
    let tell = |stats_ago_ms, now_ms| {
        let report = EdgeReport {
            backends: BTreeMap::from([(key.clone(), Default::default())]),
            stats_ago_ms,
            ..EdgeReport::default()
        };
        fleet.edge_report(&node("e"), session.id, report, now_ms);
        let seen = &fleet.snapshot().edges[&node("e")];
        let samples = &seen.backends[&key].samples;
        samples.iter().map(|s| s.at_ms).collect::<Vec<_>>()
    };
    assert_eq!(tell(Some(100), 10_000), [9_900]);
    assert_eq!(tell(Some(90), 11_000), [9_900, 10_910]);
    // HAProxy hangs: the same counters again and again.
    for second in 12..30_u64 {
        let age_ms = second * 1_000 - 10_910;
        assert_eq!(tell(Some(age_ms), second * 1_000), [9_900, 10_910]);
    }
    assert_eq!(
        tell(None, 31_000),
        [9_900, 10_910, 31_000],
        "an older agent"
    );
}

#[test]
fn health_counts_anew_after_a_pause() {
    let fleet = Fleet::default();
    let session = fleet.connect(&node("a"), false, Greeting::default(), 1);
    let tell = |state, healthy_ago_ms, now_ms| {
        let mut report = report(state);
        report.replicas[0].healthy_ago_ms = healthy_ago_ms;
        fleet.node_report(&node("a"), session.id, report, now_ms);
        fleet.snapshot().nodes[&node("a")].replicas[&ReplicaId(1)].healthy_ms
    };
    assert_eq!(tell(ReplicaState::Healthy, Some(0), 1_000), Some(1_000));
    assert_eq!(tell(ReplicaState::Healthy, Some(990), 2_000), Some(1_000));
    assert_eq!(tell(ReplicaState::Paused, Some(2_000), 3_000), Some(1_000));
    assert_eq!(tell(ReplicaState::Healthy, Some(100), 9_000), Some(8_900));
}

#[test]
fn a_forgotten_node_is_cut() {
    let fleet = Fleet::default();
    let session = fleet.connect(&node("a"), false, Greeting::default(), 1);
    fleet.forget(&node("a"));
    assert!(session.ended.is_cancelled());
    assert!(fleet.snapshot().nodes.is_empty());
}

#[test]
fn an_engine_that_came_after_its_agent_is_known_with_the_next_report() {
    let fleet = Fleet::default();
    let session = fleet.connect(&node("a"), false, Greeting::default(), 1);
    let known = || fleet.snapshot().nodes[&node("a")].engine_version.clone();
    assert_eq!(known(), "");
    let said = |version: &str| NodeReport {
        engine_version: version.into(),
        ..report(ReplicaState::Healthy)
    };
    fleet.node_report(&node("a"), session.id, said("29.1.0"), 2);
    assert_eq!(known(), "29.1.0");
    // An older agent says it once.
    fleet.node_report(&node("a"), session.id, said(""), 3);
    assert_eq!(known(), "29.1.0");
}

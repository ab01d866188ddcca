//! The JSON contract: a change here is a change for every script that reads it.

use controllerctl::output::{json, planned, views};
use longshore_proto::control::v1 as pb;

const NOW_MS: u64 = 1_795_000_000_000;

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn node() {
    let node = pb::Node {
        id: text("node1"),
        state: text("ready"),
        availability: text("cordoned"),
        roles: vec![text("worker"), text("edge")],
        address: text("10.0.0.2"),
        labels: [("zone", "b"), ("disk", "ssd")]
            .map(|(k, v)| (text(k), text(v)))
            .into(),
        replicas: 3,
        cpu_ratio: Some(0.25),
        cpu_milli: 2000,
        cpu_reserved_milli: 500,
        memory_bytes: 4 << 30,
        memory_used_bytes: 1 << 30,
        memory_reserved_bytes: 512 << 20,
        agent_version: text("0.1.0"),
        engine_version: text("29.10.0"),
        last_seen_ms: NOW_MS,
        note: text("disk swap"),
        reason: String::new(),
        drain: Some(pb::NodeDrain {
            since_ms: NOW_MS - 1_000,
            deadline_ms: NOW_MS + 599_000,
            force: false,
            left: 3,
            leaving: 1,
            late: false,
            waits: vec![text("shop/web: r7 waits until its replacement serves")],
        }),
        engine_labels: [(text("rack"), text("7"))].into(),
        problems: vec![text("no way to 10.213.0.0/16")],
        advice: vec![text("little disk: make room")],
        images_ahead: Vec::new(),
        held: vec![text("shop/db (its volume shop_data is there)")],
        held_replicas: 1,
        volumes: Vec::new(),
    };
    insta::assert_snapshot!("node", json(&views::Node::from(&node)));
    let never = pb::Node {
        cpu_ratio: Some(f64::NAN),
        ..pb::Node::default()
    };
    let never = json(&views::Node::from(&never));
    assert!(never.contains("\"last_seen\": null") && never.contains("\"cpu_ratio\": null"));
}

#[test]
fn service() {
    let signal = pb::SignalValue {
        signal: text("node_cpu"),
        value: Some(0.58),
        target: 0.6,
        recommendation: Some(4),
        against: text("of target 60 %"),
    };
    let service = pb::Service {
        aside: 0,
        unasked: false,
        certificates: Vec::new(),
        key: text("shop/web"),
        app: text("shop"),
        name: text("web"),
        image: text("nginx:1.29"),
        wanted: 4,
        planned: 4,
        healthy: 4,
        serving: 3,
        leaving: 1,
        outdated: 1,
        misplaced: 0,
        gap: String::new(),
        revision: 7,
        updated_ms: NOW_MS,
        autoscale: text("on"),
        min: 2,
        max: 12,
        signals: vec![signal],
        waits: vec![text("0 of 3 nodes fit")],
        scale_reasons: vec![text("inside tolerance")],
        routes: Vec::new(),
        urls: vec![text("http://10.0.0.1:80")],
        rollout: Some(pb::Rollout {
            service: text("shop/web"),
            state: text("running"),
            revision: 7,
            from_revision: 6,
            ..Default::default()
        }),
        job: None,
    };
    insta::assert_snapshot!("service", json(&views::Service::from(&service)));
}

#[test]
fn replica() {
    let replica = pb::Replica {
        aside: None,
        id: 17,
        service: text("shop/web"),
        slot: 3,
        name: text("web.3"),
        node: text("node2"),
        image: text("nginx:1.29"),
        revision: 7,
        state: text("healthy"),
        traffic: text("serve"),
        checks: [(text("edge1"), text("up"))].into(),
        sessions: 5,
        reason: String::new(),
        leaving: String::new(),
        container_id: text("abcdef"),
        address: text("10.0.0.2:31001"),
        cpu_milli: Some(50.0),
        memory_bytes: 25 << 20,
        created_ms: NOW_MS - 2_000,
        started_ms: Some(NOW_MS),
        restarts: 1,
    };
    insta::assert_snapshot!("replica", json(&views::Replica::from(&replica)));
}

#[test]
fn status() {
    let status = pb::GetStatusResponse {
        cluster: text("lab"),
        controller_version: text("0.1.0"),
        term: 3,
        plan_version: 42,
        time_ms: NOW_MS,
        started_ms: NOW_MS - 1_000,
        nodes_ready: 2,
        nodes_total: 3,
        services_total: 1,
        replicas_wanted: 4,
        replicas_serving: 3,
        problems: vec![pb::Problem {
            about: text("shop/web"),
            message: text("0 of 3 nodes fit"),
            reason: None,
        }],
        observing_until_ms: NOW_MS + 9_000,
        edges: vec![pb::Edge {
            node: text("edge1"),
            connected: true,
            routes_generation: 5,
            routes_generation_wanted: 6,
            haproxy_version: text("2.6.12"),
            problem: String::new(),
        }],
    };
    insta::assert_snapshot!("status", json(&views::Status::new("prod", &status)));
}

#[test]
fn event_and_why() {
    let event = pb::EventsResponse {
        sequence: 9,
        time_ms: NOW_MS,
        r#type: text("scaled"),
        message: text("shop/web: 3 -> 5"),
        detail: Some(longshore_wire::to_struct(
            &serde_json::json!({"from": 3, "to": 5}),
        )),
    };
    insta::assert_snapshot!("event", json(&views::EventLine::from(&event)));
    let why = pb::WhyResponse {
        target: text("shop/web"),
        decided_ms: NOW_MS,
        lines: vec![text("web runs 4, wants 4")],
        report: None,
        decisions: vec![decision()],
        recent: vec![event],
    };
    insta::assert_snapshot!("why", json(&views::Why::from(&why)));
}

fn decision() -> pb::Decision {
    let record = serde_json::json!({"current": 4, "result": 4, "recommendation": 4});
    pb::Decision {
        service: text("shop/web"),
        kind: text("scale"),
        first_ms: NOW_MS - 60_000,
        last_ms: NOW_MS,
        count: 61,
        plan_version: 42,
        summary: text("stays 4: cpu 58 % of target 60 % asks for 4"),
        record: Some(longshore_wire::to_struct(&record)),
    }
}

#[test]
fn autoscale() {
    let state = pb::AutoscaleState {
        cause: text("cpu 86 % of target 60 % asks for 3; waits for approval"),
        service: text("shop/web"),
        mode: text("approve"),
        wanted: 4,
        min: 3,
        max: 9,
        file_min: 2,
        file_max: 12,
        signals: Vec::new(),
        recommendation: Some(5),
        reasons: vec![text("would be 5: waits for approval")],
        paused: Some(pb::AutoscalePause {
            since_ms: NOW_MS,
            until_ms: 0,
            by: text("ana"),
        }),
        bounds: Some(pb::AutoscaleBounds {
            min: Some(3),
            max: None,
            at_ms: NOW_MS,
            by: text("ana"),
        }),
        approved: Some(pb::AutoscaleApproval {
            count: 4,
            at_ms: NOW_MS,
            by: text("bob"),
        }),
        awaits_approval: Some(5),
        last_change: text("3 -> 4  approved by bob"),
        last_change_ms: NOW_MS,
    };
    let view = controllerctl::output::explained::Autoscale::from(&state);
    insta::assert_snapshot!("autoscale", json(&view));
}

#[test]
fn plan() {
    let change = |action: &str| pb::Change {
        action: text(action),
        service: text("web"),
        details: vec![text("image: a -> b")],
        forecast: Some(pb::ServiceForecast {
            before: 2,
            wanted: 4,
            created: 2,
            replaced: 2,
            nodes: vec![pb::NodeShare {
                node: text("node1"),
                replicas: 1,
            }],
            unplaced: 1,
            waits: vec![text("0 of 2 nodes fit")],
            order: text("start-first"),
            at_once: 1,
            ..Default::default()
        }),
    };
    let plan = pb::PlanAppResponse {
        revision: 6,
        changes: vec![change("change"), change("same")],
        warnings: vec![text("stop-first")],
        placement: Some(pb::PlanPlacement {
            created: 2,
            replaced: 2,
            peak_replicas: 1,
            peak_cpu_milli: 500,
            peak_memory_bytes: 256 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    insta::assert_snapshot!("plan", json(&planned::Plan::new("shop", &plan)));
}

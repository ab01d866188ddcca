//! What goes out comes back the same; what comes in wrong is refused with its field.
#![allow(clippy::semicolon_if_nothing_returned)] // one-line closures of a table

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::autoscale::{
    AutoscaleMode, AutoscaleSpec, ExternalQuery, Metric, Schedule, ScheduleEnd, Signal, Step,
    StepRule, StepTo, TargetKind,
};
use longshore_model::observe::{
    CheckState, EngineState, ServerAdmin, ServerAnswers, ServerObserved,
};
use longshore_model::plan::{AssignedReplica, Assignment, PortBinding};
use longshore_model::reason::FailReason;
use longshore_model::receipt::{Exit, Killed};
use longshore_model::repair::Repair;
use longshore_model::replica::ReplicaState;
use longshore_model::routes::{Backend, Routes, Server, ServerMode};
use longshore_model::secret::{PEM_BYTES_MAX, SECRETS_ALL_MAX};
use longshore_model::spec::{
    Balance, CheckTimes, Constraint, ContainerSpec, ExecCheck, FailureAction, GateSpec, Mount,
    NodeAttribute, PlacementPolicy, PlacementSpec, Probe, ProxyProtocol, RouteSpec, ServiceSpec,
    Timeouts, UpdateOrder, UpdateSpec, Weights,
};
use longshore_model::{Event, EventKind, NodeId, ReplicaId, SecretKey, SecretText, ServiceKey};
use longshore_wire::{
    self as wire, Fence, NodeReport, ReplicaReport, certificates_from_pb, certificates_to_pb,
};
use proptest::prelude::*;
use serde_json::json;

/// Each signal once, the external one also with another kind of target.
fn every_signal() -> Vec<Metric> {
    let jobs = Signal::Prometheus(ExternalQuery {
        url: Some("http://10.0.0.9:9090".into()),
        query: "sum(jobs_waiting)".into(),
    });
    let signals = [
        Signal::NodeCpu,
        Signal::Cpu,
        Signal::Memory,
        Signal::Requests,
        Signal::Queue,
        Signal::Concurrency,
        Signal::Latency,
        Signal::Errors,
        jobs.clone(),
    ];
    let metric = |signal: Signal| Metric {
        kind: signal.default_kind(),
        signal,
        target: 0.6,
    };
    let mut metrics: Vec<_> = signals.into_iter().map(metric).collect();
    metrics.push(Metric {
        signal: jobs,
        target: 50.0,
        kind: TargetKind::Value,
    });
    metrics
}

fn container() -> ContainerSpec {
    ContainerSpec {
        image: "longshore/hello:1".into(),
        command: Some(vec!["serve".into(), "--port=8000".into()]),
        entrypoint: Some(vec![]),
        env: BTreeMap::from([("A".into(), "line one\nline two".into())]),
        stop_grace_ms: 10_000,
        ports: vec![8000],
        healthcheck: Some(ExecCheck {
            command: vec!["/bin/true".into()],
            interval_ms: 1000,
            timeout_ms: 500,
            retries: 3,
            start_period_ms: 0,
            start_interval_ms: Some(200),
        }),
        probe: Some(Probe {
            port: 8000,
            path: Some("/healthz".into()),
            edge_path: Some("/edge".into()),
            interval_ms: 2000,
            timeout_ms: 1000,
            retries: 3,
            start_ms_max: 60_000,
        }),
        mounts: vec![Mount {
            source: "data".into(),
            target: "/data".into(),
            read_only: true,
            ..Mount::default()
        }],
        ..ContainerSpec::default()
    }
}

fn update() -> UpdateSpec {
    UpdateSpec {
        parallelism: 0,
        delay_ms: 3,
        order: UpdateOrder::Auto,
        max_unavailable: 1,
        monitor_ms: 0,
        failure_action: FailureAction::Rollback,
        failure_permille_max: Some(250),
    }
}

fn gate() -> GateSpec {
    GateSpec {
        requests_min: 50,
        error_increase_permille_max: Some(10),
        latency_permille_max: Some(1_500),
        latency_ms_min: 20,
    }
}

fn placement() -> PlacementSpec {
    PlacementSpec {
        constraints: vec![Constraint {
            attribute: NodeAttribute::Label("ssd".into()),
            equal: true,
            value: "true".into(),
        }],
        max_per_node: 3,
        policy: PlacementPolicy::Binpack,
        spread_labels: vec!["zone".into(), "engine.labels.rack".into()],
        stay: true,
    }
}

fn route() -> RouteSpec {
    RouteSpec {
        domains: vec!["shop.example.com".into()],
        path: Some("/api".into()),
        balance: Balance::Hash,
        hash_header: Some("x-tenant".into()),
        sticky_cookie: Some("SHOP".into()),
        check_path: Some("/healthz".into()),
        check: CheckTimes {
            interval_ms: 2_000,
            rise: 2,
            fall: 3,
            timeout_ms: 900,
        },
        maxconn_per_replica: 100,
        slowstart_ms: 5_000,
        timeouts: Timeouts {
            connect_ms: 1_000,
            server_ms: 90_000,
            queue_ms: 5_000,
            tunnel_ms: 60_000,
        },
        proxy_protocol: Some(ProxyProtocol::V2),
        accept_proxy: true,
        http2: true,
        tls: vec!["shop-cert".into()],
        compression: vec!["text/html".into()],
        hsts_max_age_s: Some(0),
        ..RouteSpec::new(8080, 8000)
    }
}

fn service() -> ServiceSpec {
    let redirect = RouteSpec {
        redirect_port: 443,
        ..RouteSpec::new(80, 8000)
    };
    ServiceSpec {
        container: container(),
        replicas: 2,
        placement: placement(),
        update: update(),
        rollback: Some(UpdateSpec {
            order: UpdateOrder::StopFirst,
            failure_action: FailureAction::Continue,
            ..UpdateSpec::default()
        }),
        gate: Some(gate()),
        autoscale: Some(AutoscaleSpec {
            min: 2,
            max: 12,
            metrics: every_signal(),
            steps: vec![StepRule {
                signal: Signal::Cpu,
                steps: vec![
                    Step {
                        at: 0.1,
                        to: StepTo::Count(1),
                    },
                    Step {
                        at: 0.2,
                        to: StepTo::Change(-2),
                    },
                ],
            }],
            window_ms: 10_000,
            warmup_ms: 5_000,
            scale_up: AutoscaleSpec::default_up(),
            scale_down: AutoscaleSpec::default_down(),
            on_missing: Default::default(),
            mode: AutoscaleMode::Approve,
            schedules: vec![
                Schedule {
                    name: "office".into(),
                    start: "0 7 * * MON-FRI".into(),
                    end: ScheduleEnd::After(43_200_000),
                    time_zone: "Europe/Brussels".into(),
                    min: Some(4),
                    max: None,
                },
                Schedule {
                    name: "night".into(),
                    start: "0 22 * * *".into(),
                    end: ScheduleEnd::At("0 6 * * *".into()),
                    time_zone: "UTC".into(),
                    min: None,
                    max: Some(5),
                },
            ],
            warm: 2,
        }),
        routes: vec![route(), redirect],
        drain_ms: 30_000,
        ..ServiceSpec::default()
    }
}

#[test]
fn a_service_comes_back_the_same() {
    let spec = service();
    assert_eq!(
        wire::service_spec_from_pb(wire::service_spec_to_pb(&spec)),
        Ok(spec)
    );
}

#[test]
fn an_assignment_comes_back_the_same() {
    let spec = container();
    let template = spec.template_id();
    let assignment = Assignment {
        generation: 7,
        replicas: vec![AssignedReplica {
            id: ReplicaId(17),
            service: "hello/hello".parse().unwrap(),
            slot: 1,
            revision: 3,
            template: template.clone(),
            ports: vec![PortBinding {
                container_port: 8000,
                host_port: 20_001,
            }],
            stop: true,
            paused: true,
            ended: true,
        }],
        templates: BTreeMap::from([(template, Arc::new(spec))]),
    };
    let fence = Fence {
        cluster_generation: 1,
        term: 4,
    };
    let message = wire::assignment_to_pb(&assignment, fence);
    assert_eq!(
        wire::assignment_from_pb(message.clone()),
        Ok((fence, assignment))
    );

    let mut orphan = message;
    orphan.templates.clear();
    let refusal = wire::assignment_from_pb(orphan).unwrap_err();
    assert!(refusal.to_string().contains("template"), "{refusal}");
}

#[test]
fn routes_come_back_the_same() {
    let routes = Routes {
        generation: 9,
        backends: vec![Backend {
            service: "hello/hello".parse().unwrap(),
            route: RouteSpec {
                balance: Balance::Random,
                weights: Weights::Load,
                ..service().routes.remove(0)
            },
            servers: vec![Server {
                replica: ReplicaId(1),
                address: "192.168.56.11".parse().unwrap(),
                port: 20_000,
                mode: ServerMode::Drain,
                weight: Some(40),
            }],
            holds: true,
        }],
        closed: vec!["hello/jobs".parse().unwrap()],
    };
    let message = wire::routes_to_pb(&routes, Fence::default());
    assert_eq!(
        wire::routes_from_pb(message),
        Ok((Fence::default(), routes))
    );
}

#[test]
fn how_a_replica_ended_comes_back_the_same() {
    let exits = [
        (0, Some(1_200), None),
        (137, Some(10_000), Some(Killed::Grace)),
        (137, None, Some(Killed::Memory)),
    ];
    for (code, after_ms, killed) in exits {
        let exit = Exit {
            code,
            after_ms,
            killed,
        };
        let mut gone = failed_replica();
        (gone.state, gone.reason, gone.exit) = (ReplicaState::Gone, None, Some(exit));
        let node = NodeReport {
            replicas: vec![gone],
            ..NodeReport::default()
        };
        let back = wire::node_report_from_pb(wire::node_report_to_pb(&node));
        assert_eq!(back, Ok(node.clone()));
        assert_eq!(node.replicas[0].status(5).exit, Some(exit));
        // Of one that is not gone nobody says how it ended.
        let mut runs = node.replicas[0].clone();
        runs.state = ReplicaState::Stopping;
        assert_eq!(runs.status(5).exit, None);
    }
}

fn failed_replica() -> ReplicaReport {
    ReplicaReport {
        id: ReplicaId(4),
        state: ReplicaState::Failed,
        reason: Some(FailReason::PortTaken { port: 20_000 }),
        container_id: Some("abc".into()),
        started_ago_ms: Some(10),
        healthy_ago_ms: None,
        restarts: 2,
        memory_bytes: 5,
        memory_sample_bytes: Some(5),
        cpu_milli: Some(12.5),
        exit: None,
        exposed: [80, 6379].into(),
    }
}

#[test]
fn reports_come_back_the_same() {
    let node = NodeReport {
        assignment_generation: 3,
        engine: EngineState::Stuck,
        cpu_ratio: Some(0.25),
        replicas: vec![failed_replica()],
        problems: vec!["no port".into()],
        advice: vec!["little disk".into()],
        time_ms: Some(7),
        engine_version: "29.1.0".into(),
        ..NodeReport::default()
    };
    assert_eq!(
        wire::node_report_from_pb(wire::node_report_to_pb(&node)),
        Ok(node)
    );

    let server = ServerObserved {
        check: CheckState::Unknown,
        admin: ServerAdmin::Drain,
        sessions: 1,
        queued: 2,
        answers: ServerAnswers {
            requests_total: 7,
            errors_total: 1,
            response_ms: 12,
        },
    };
    let edge = wire::EdgeReport {
        routes_generation: 5,
        servers: BTreeMap::from([(
            "shop/web".parse().unwrap(),
            BTreeMap::from([(ReplicaId(4), server)]),
        )]),
        backends: BTreeMap::from([("a/b".parse::<ServiceKey>().unwrap(), Default::default())]),
        stats_ago_ms: Some(12),
        problem: Some("port 80 taken".into()),
        haproxy_version: "2.6.12".into(),
        refused: BTreeMap::from([("shop/web".parse().unwrap(), "port 80 taken".into())]),
        sharers: BTreeMap::from([("haproxy (pid 7)".into(), [80, 443].into())]),
        certificates: Some(BTreeMap::new()),
        repairs: repairs(),
    };
    assert_eq!(
        wire::edge_report_from_pb(wire::edge_report_to_pb(&edge)),
        Ok(edge)
    );
}

fn container_of(
    s: &mut longshore_proto::spec::v1::ServiceSpec,
) -> &mut longshore_proto::spec::v1::ContainerSpec {
    s.container.get_or_insert_default()
}

#[test]
fn bad_fields_are_refused_by_name() {
    type Spoil = fn(&mut longshore_proto::spec::v1::ServiceSpec);
    let cases: [(&str, Spoil); 9] = [
        ("image", |s| container_of(s).image = "a b".to_owned()),
        ("env", |s| {
            container_of(s)
                .env
                .extend([("A\0".to_owned(), String::new())])
        }),
        ("listen_port", |s| s.routes[0].listen_port = 70_000),
        ("check.path", |s| {
            s.routes[0].check_path = Some("/x\nserver evil".to_owned())
        }),
        ("domains", |s| s.routes[0].domains = vec!["a b".to_owned()]),
        ("failure_permille_max", |s| {
            s.update
                .iter_mut()
                .for_each(|u| u.failure_permille_max = Some(1_001))
        }),
        ("rollback.failure_action", |s| {
            s.rollback.iter_mut().for_each(|u| {
                u.set_failure_action(longshore_proto::spec::v1::FailureAction::Rollback)
            })
        }),
        ("latency_permille_max", |s| {
            s.gate
                .iter_mut()
                .for_each(|g| g.latency_permille_max = Some(999))
        }),
        ("min", |s| s.autoscale.iter_mut().for_each(|a| a.min = 13)),
    ];
    for (field, spoil) in cases {
        let mut message = wire::service_spec_to_pb(&service());
        spoil(&mut message);
        let refusal = wire::service_spec_from_pb(message).unwrap_err().to_string();
        assert!(refusal.contains(field), "{field}: {refusal}");
    }
}

#[test]
fn an_event_carries_its_reason_as_data() {
    let kind = EventKind::NodeBack {
        node: NodeId::new("worker1").unwrap(),
    };
    let message = wire::event_to_pb(&Event { at_ms: 5, kind }, 1);
    assert_eq!((message.r#type.as_str(), message.time_ms), ("node_back", 5));
    let detail = wire::struct_to_json(&message.detail.unwrap());
    assert_eq!(detail["node"], "worker1");
}

#[test]
fn a_receipt_is_data_and_words() {
    let receipt = json!({"sessions_at_drain": 12, "sessions_at_park": 3, "zero_after_ms": null,
        "forced": true, "edge_gone": false});
    let replica = json!({"service": "shop/web", "replica": "r19", "node": "node3", "slot": 4});
    let drained = json!({"type": "drained", "after_ms": 2_100, "receipts": [["edge1", receipt]]});
    let exit = json!({"code": 137, "after_ms": 10_020, "killed": "grace"});
    let gone = json!({"type": "gone", "after_ms": 10_400, "exit": exit, "lost": false,
        "why": {"reason": "scale_in"}});
    for (news, words) in [
        (
            drained,
            "edge1: 12 sessions, 3 sessions when it left the routes: cut by the stop (forced)",
        ),
        (gone, "killed after its grace of 10 s"),
    ] {
        let mut event = news.clone();
        event
            .as_object_mut()
            .unwrap()
            .extend(replica.as_object().unwrap().clone());
        let kind: EventKind = serde_json::from_value(event).unwrap();
        let message = wire::event_to_pb(&Event { at_ms: 5, kind }, 1);
        assert!(message.message.ends_with(words), "{}", message.message);
        let detail = wire::struct_to_json(&message.detail.unwrap());
        for (key, value) in news.as_object().unwrap() {
            assert_eq!(&detail[key], value, "{key}");
        }
    }
    // What was stored before ends were reported is read, and nothing is made up.
    let old = json!({"type": "gone", "why": {"reason": "scale_in"}, "service": "shop/web",
        "replica": "r19", "node": "node3", "slot": 4});
    let old: EventKind = serde_json::from_value(old).unwrap();
    assert!(
        old.to_string()
            .ends_with("its node did not say how it ended")
    );
}

proptest! {
    #[test]
    fn json_comes_back_the_same(a in any::<bool>(), b in -1_000_000i64..1_000_000, c in ".{0,20}") {
        let json = serde_json::json!({"a": a, "b": [b, null], "c": {"d": c, "e": 0.5}});
        prop_assert_eq!(wire::struct_to_json(&wire::json_to_struct(json.clone())), json);
    }

    #[test]
    fn any_cpu_value_gets_through_unchanged(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let report = NodeReport { cpu_ratio: Some(value), ..NodeReport::default() };
        let back = wire::node_report_from_pb(wire::node_report_to_pb(&report)).unwrap();
        prop_assert_eq!(back.cpu_ratio.map(f64::to_bits), Some(bits));
    }
}

#[test]
fn engine_labels_are_bounded_and_never_cut() {
    let long = "x".repeat(300);
    let labels = (0..100).map(|n| (format!("label{n:03}"), "1".to_owned()));
    let odd = [
        ("long".to_owned(), long.clone()),
        (long, "1".to_owned()),
        (String::new(), "1".to_owned()),
    ];
    let kept = wire::engine_labels(odd.into_iter().chain(labels));
    assert_eq!(kept.len(), 64);
    assert!(
        kept.iter()
            .all(|(key, value)| key.starts_with("label") && value == "1")
    );

    let capacity = longshore_model::node::Capacity {
        engine_labels: BTreeMap::from([("storage".to_owned(), "ssd".to_owned())]),
        ..Default::default()
    };
    assert_eq!(
        wire::capacity_from_pb(wire::capacity_to_pb(&capacity)),
        capacity
    );
}

#[test]
fn certificates_come_back_the_same_and_are_not_shown() {
    let key = |app: &str, name: &str| SecretKey::new(app.parse().unwrap(), name.parse().unwrap());
    let certificates = BTreeMap::from([
        (key("shop", "cert"), SecretText::new("-----hunter2-----")),
        (key("blog", "cert"), SecretText::new("")),
    ]);
    let fence = Fence {
        cluster_generation: 1,
        term: 2,
    };
    let message = certificates_to_pb(&certificates, fence);
    let shown = format!("{message:?} {certificates:?}");
    assert!(
        shown.contains("shop/cert") && !shown.contains("hunter2"),
        "{shown}"
    );
    assert_eq!(
        certificates_from_pb(message.clone()),
        Ok((fence, certificates))
    );
    for bad in ["", "../x", "a b", "a.b"] {
        let mut bad_name = message.clone();
        bad_name.certificates[0].name = bad.into();
        assert!(certificates_from_pb(bad_name).is_err(), "{bad:?} was taken");
    }
    let mut long = message.clone();
    long.certificates[0].pem = "x".repeat(PEM_BYTES_MAX + 1);
    assert!(certificates_from_pb(long).is_err());
    let mut many = message;
    many.certificates = vec![many.certificates[0].clone(); SECRETS_ALL_MAX + 1];
    assert!(certificates_from_pb(many).is_err());
    let secret = longshore_proto::control::v1::Secret {
        pem: "hunter2".into(),
        ..Default::default()
    };
    assert!(!format!("{secret:?}").contains("hunter2"));
}

/// One of each kind.
fn repairs() -> Vec<(u64, Repair)> {
    use longshore_model::repair::RepairKind::{
        Back, Certificates, Changed, File, Hung, Restarted, Socket,
    };
    let kinds = [Changed, Certificates, File, Socket, Restarted, Back, Hung];
    let repair = |(n, kind)| Repair {
        number: n,
        kind,
        what: "be_web/slot1 (r1) was in maint".into(),
        more: 2,
        away_ms: (kind == Back).then_some(3_000),
    };
    let repairs = (7..).zip(kinds).map(repair);
    repairs
        .map(|repair| (repair.number * 100, repair))
        .collect()
}

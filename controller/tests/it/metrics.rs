//! Recordings: taken, told in pages, replayed, and there after a start.

use longshore_model::autoscale::{Behavior, Metric, OnMissing, Signal};
use longshore_model::recording::{Load, Point, RESOLUTION_MS};
use longshore_model::{AutoscaleMode, AutoscaleSpec, ServiceKey};
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use longshore_wire::{service_spec_from_pb, service_spec_to_pb};
use tonic::Code;

use crate::support::{Lab, app};

fn key() -> ServiceKey {
    "shop/web".parse().unwrap()
}

/// Half a core for each replica of at most ten.
fn scaled(app: &pb::App) -> spec::ServiceSpec {
    let behavior = |stabilization_ms| Behavior {
        stabilization_ms,
        tolerance: 0.1,
        policies: Vec::new(),
        select_min: false,
    };
    let mut web = service_spec_from_pb(app.services["web"].clone()).unwrap();
    web.container.resources.cpu_limit_milli = 1_000;
    let metric = |signal: Signal, target| Metric {
        kind: signal.default_kind(),
        signal,
        target,
    };
    web.autoscale = Some(AutoscaleSpec {
        min: 1,
        max: 10,
        metrics: vec![metric(Signal::Cpu, 0.5), metric(Signal::NodeCpu, 0.5)],
        steps: Vec::new(),
        window_ms: 30_000,
        warmup_ms: 0,
        scale_up: behavior(0),
        scale_down: behavior(60_000),
        on_missing: OnMissing::Hold,
        mode: AutoscaleMode::On,
        schedules: Vec::new(),
        warm: 0,
    });
    service_spec_to_pb(&web)
}

async fn apply(lab: &Lab, app: pb::App) {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
}

/// Three hundred points of two replicas that use two cores all the time, and when they begin.
async fn recorded() -> (Lab, u64) {
    let lab = Lab::start().await;
    apply(&lab, app("shop", "web", 80, 1)).await;
    let now_ms = lab.controller.now_ms();
    let begin_ms = now_ms - now_ms % RESOLUTION_MS - 3_600_000;
    for number in 0..300_u64 {
        let mut point = Point {
            at_ms: begin_ms + number * RESOLUTION_MS,
            wanted: 2,
            ready: 2,
            ..Point::default()
        };
        point.loads[Load::Cpu.index()] = Some(2_000.0);
        lab.controller.recording.lock().push(&key(), &point);
    }
    (lab, begin_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_load_is_told_in_pages() {
    let (lab, begin_ms) = recorded().await;
    let mut request = pb::ListMetricsRequest {
        service: "web".into(),
        until_ms: begin_ms + 299 * RESOLUTION_MS,
        limit: 200,
        ..Default::default()
    };
    let ask = async |request: &pb::ListMetricsRequest| {
        let answer = lab.admin.clone().list_metrics(request.clone()).await;
        answer.unwrap().into_inner()
    };
    let first = ask(&request).await;
    assert_eq!(
        (first.points.len(), first.signals[0].as_str()),
        (200, "cpu")
    );
    let loads = &first.points[0].loads;
    assert!((loads[0] - 2_000.0).abs() < 1.0 && loads[1].is_nan());
    request.since_ms = first.next_ms;
    let rest = ask(&request).await;
    assert_eq!((rest.points.len(), rest.next_ms), (100, 0));
    (request.since_ms, request.step_ms) = (0, 600_000);
    let means = ask(&request).await.points;
    assert!((5..=6).contains(&means.len()), "{}", means.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_load_is_replayed_against_a_policy() {
    let (lab, begin_ms) = recorded().await;
    let fixed = app("shop", "web", 80, 1);
    let request = pb::SimulateAutoscaleRequest {
        service: "shop/web".into(),
        spec: Some(scaled(&fixed)),
        since_ms: begin_ms + 100 * RESOLUTION_MS,
    };
    let ask = async |request: pb::SimulateAutoscaleRequest| {
        let answer = lab.admin.clone().simulate_autoscale(request).await;
        answer.map(tonic::Response::into_inner)
    };
    let told = ask(request.clone()).await.unwrap();
    let (missing, there) = (["node_cpu".to_owned()], ["cpu".to_owned()]);
    assert_eq!(
        (&told.unrecorded[..], &told.recorded[..]),
        (&missing[..], &there[..])
    );
    let last = told.points[199].clone();
    assert_eq!((last.was, last.would), (2, 4), "{last:?}");
    let change = told.points.iter().find(|point| point.would != 2).unwrap();
    assert!(change.cause.contains("cpu"), "{change:?}");

    let mut refused = Vec::new();
    for request in [
        pb::SimulateAutoscaleRequest {
            service: "wbe".into(),
            ..request.clone()
        },
        pb::SimulateAutoscaleRequest {
            since_ms: begin_ms + 86_400_000,
            ..request.clone()
        },
        pb::SimulateAutoscaleRequest {
            spec: Some(fixed.services["web"].clone()),
            ..request
        },
    ] {
        refused.push(ask(request).await.unwrap_err().code());
    }
    let expected = [
        Code::NotFound,
        Code::FailedPrecondition,
        Code::InvalidArgument,
    ];
    assert_eq!(refused, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_recorded_and_there_after_a_start() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    apply(&lab, app("shop", "web", 80, 2)).await;
    let now_ms = lab.controller.now_ms();
    let at_ms = now_ms - now_ms % RESOLUTION_MS + RESOLUTION_MS;
    lab.until("two are ready", async |_| {
        let cluster = &lab.controller;
        let mut recording = controller::recording::Recording::default();
        for (key, point) in controller::recording::look(cluster, at_ms, cluster.now_ms()) {
            recording.push(&key, &point);
        }
        let seen = recording.points(&key(), 0, u64::MAX);
        let is_there = seen.first().is_some_and(|p| (p.wanted, p.ready) == (2, 2));
        is_there.then_some(()).ok_or(format!("{seen:?}"))
    })
    .await;
    controller::recording::take(&lab.controller, at_ms, lab.controller.now_ms());
    let points = |lab: &Lab| lab.controller.recording.lock().points(&key(), at_ms, at_ms);
    let before = points(&lab);
    assert_eq!((before.len(), before[0].wanted), (1, 2));
    let lab = lab.restart().await;
    assert_eq!(points(&lab), before);
}

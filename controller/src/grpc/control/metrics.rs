//! `ListMetrics` and `SimulateAutoscale`: what was recorded, and what a policy makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::recording::{Load, Point, RESOLUTION_MS};
use longshore_model::{ServiceKey, TimeMs};
use longshore_planner::replay::{Step, replay, unrecorded};
use longshore_proto::control::v1 as pb;
use longshore_wire::service_spec_from_pb;
use tokio::sync::Semaphore;
use tonic::Status;

use super::find;
use crate::cluster::Cluster;

/// Points of one answer.
const POINTS_MAX: usize = 2_000;
/// Replays that run at the same time: each takes a core for a while.
static REPLAYS: Semaphore = Semaphore::const_new(1);

/// A service that is there, or of which there is a recording.
fn known(cluster: &Cluster, word: &str) -> Result<ServiceKey, Status> {
    let mut keys = find::known(&cluster.desired(), &cluster.view().plan);
    keys.extend(cluster.recording.lock().services().cloned());
    keys.sort();
    keys.dedup();
    find::one_of(&keys, word)
}

fn points(cluster: &Cluster, key: &ServiceKey, since_ms: TimeMs, until_ms: TimeMs) -> Vec<Point> {
    let until_ms = if until_ms == 0 { TimeMs::MAX } else { until_ms };
    let recording = cluster.recording.lock();
    recording.points(key, since_ms, until_ms)
}

/// Serves `ListMetrics`.
pub(super) fn list(
    cluster: &Cluster,
    request: &pb::ListMetricsRequest,
) -> Result<pb::ListMetricsResponse, Status> {
    let service = known(cluster, &request.service)?;
    let all = points(cluster, &service, request.since_ms, request.until_ms);
    let queries: BTreeSet<&String> = all.iter().flat_map(|p| p.external.keys()).collect();
    let queries: Vec<String> = queries.into_iter().cloned().collect();
    let asked = usize::try_from(request.limit).unwrap_or(POINTS_MAX);
    let limit = if asked == 0 {
        POINTS_MAX
    } else {
        asked.min(POINTS_MAX)
    };
    let step_ms = request.step_ms.max(RESOLUTION_MS);
    let slot = |point: &Point| point.at_ms.saturating_sub(1) / step_ms;
    let mut steps = all.chunk_by(|a, b| slot(a) == slot(b));
    let shown = steps.by_ref().take(limit);
    let shown = shown.map(|points| mean_of(points, &queries)).collect();
    let next_ms = steps.next().and_then(|rest| rest.first());
    Ok(pb::ListMetricsResponse {
        service: service.to_string(),
        signals: Load::ALL.map(|load| load.as_str().to_owned()).to_vec(),
        queries,
        points: shown,
        next_ms: next_ms.map_or(0, |point| point.at_ms),
    })
}

fn mean_of(points: &[Point], queries: &[String]) -> pb::MetricsPoint {
    let last = points.last().cloned().unwrap_or_default();
    let mean = |load: &dyn Fn(&Point) -> Option<f64>| {
        let (mut sum, mut count) = (0.0, 0.0);
        for value in points.iter().filter_map(load) {
            sum += value;
            count += 1.0;
        }
        // NaN where nothing was measured; what is told has seven digits.
        #[allow(clippy::cast_possible_truncation)]
        let mean = (sum / count) as f32;
        mean
    };
    let loads = Load::ALL
        .iter()
        .map(|load| mean(&|point| point.load(*load)));
    let answers = queries.iter();
    let answers = answers.map(|query| mean(&|point| point.external.get(query).copied()));
    pb::MetricsPoint {
        at_ms: last.at_ms,
        wanted: last.wanted,
        ready: last.ready,
        loads: loads.chain(answers).collect(),
    }
}

/// Serves `SimulateAutoscale`.
pub(super) async fn simulate(
    cluster: Arc<Cluster>,
    request: pb::SimulateAutoscaleRequest,
) -> Result<pb::SimulateAutoscaleResponse, Status> {
    let service = known(&cluster, &request.service)?;
    let spec = request.spec.unwrap_or_default();
    let spec = service_spec_from_pb(spec).map_err(|error| {
        Status::invalid_argument(format!("{service}: {}", crate::chain(&error)))
    })?;
    let Some(policy) = &spec.autoscale else {
        return Err(Status::invalid_argument(format!(
            "{service} has no x-autoscale in that file: there is nothing to simulate"
        )));
    };
    let points = points(&cluster, &service, request.since_ms, 0);
    if points.is_empty() {
        return Err(Status::failed_precondition(format!(
            "nothing is recorded of {service} in that time; of a service that runs there is a point \
             each {} s, for 24 h",
            RESOLUTION_MS / 1_000
        )));
    }
    let missing = unrecorded(policy, &points);
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let recorded = recorded(&points);
    let _one = REPLAYS
        .acquire()
        .await
        .map_err(|_| Status::unavailable("the controller ends"))?;
    let key = service.clone();
    let steps =
        tokio::task::spawn_blocking(move || replay(&key, &spec, &points, &cluster.config.planner));
    let steps = steps.await;
    let steps = steps.map_err(|error| Status::internal(format!("the replay failed: {error}")))?;
    Ok(pb::SimulateAutoscaleResponse {
        service: service.to_string(),
        points: steps.iter().map(point).collect(),
        unrecorded: missing,
        recorded,
    })
}

/// Signals of which there is something.
fn recorded(points: &[Point]) -> Vec<String> {
    let any = |load: &&Load| points.iter().any(|point| point.load(**load).is_some());
    let loads = Load::ALL
        .iter()
        .filter(any)
        .map(|load| load.as_str().to_owned());
    let queries: BTreeSet<&String> = points.iter().flat_map(|p| p.external.keys()).collect();
    let queries = queries.iter().map(|query| format!("prometheus({query})"));
    loads.chain(queries).collect()
}

fn point(step: &Step) -> pb::SimulatedPoint {
    // What is told has seven digits.
    #[allow(clippy::cast_possible_truncation)]
    let told = |ratio: Option<f64>| ratio.map(|ratio| ratio as f32);
    pb::SimulatedPoint {
        at_ms: step.at_ms,
        was: step.was,
        would: step.would,
        was_ratio: told(step.was_ratio),
        would_ratio: told(step.would_ratio),
        cause: step
            .cause
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

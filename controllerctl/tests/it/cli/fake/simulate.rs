//! A replay, as the fake makes it up.

use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::NOW_MS;

/// Six points of hello/hello: as it was 2, then 3; simulated 2, then as many as the policy's most.
pub(super) fn told(
    request: &pb::SimulateAutoscaleRequest,
) -> Result<pb::SimulateAutoscaleResponse, Status> {
    if request.service != "hello/hello" {
        return Err(Status::not_found("there is no such service"));
    }
    let spec = request.spec.clone().unwrap_or_default();
    let policy = spec
        .autoscale
        .ok_or(Status::invalid_argument("no policy"))?;
    if request.since_ms > NOW_MS {
        return Err(Status::failed_precondition(
            "nothing is recorded of hello/hello",
        ));
    }
    let point = |number: u64| pb::SimulatedPoint {
        at_ms: NOW_MS - 60_000 + number * 10_000,
        was: if number < 3 { 2 } else { 3 },
        would: if number < 2 { 2 } else { policy.max },
        was_ratio: Some(if number < 2 { 0.5 } else { 1.5 }),
        would_ratio: Some(if number == 2 { 1.5 } else { 0.5 }),
        cause: match number {
            2 => "cpu 90% of 60%".into(),
            _ => String::new(),
        },
    };
    let asks_queue = policy.metrics.len() > 1;
    let asks_jobs = policy.max == 7;
    let unrecorded: &[&str] = match (asks_queue, asks_jobs) {
        (true, _) => &["queue"],
        (false, true) => &["cpu"],
        _ => &[],
    };
    Ok(pb::SimulateAutoscaleResponse {
        service: request.service.clone(),
        points: (0..6).map(point).collect(),
        unrecorded: unrecorded.iter().map(|&word| word.to_owned()).collect(),
        recorded: vec!["cpu".into(), "memory".into()],
    })
}

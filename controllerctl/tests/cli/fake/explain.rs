//! What the fake tells about decisions and autoscalers.

use longshore_proto::control::v1 as pb;
use pb::set_autoscale_request::Action;
use tonic::Status;

use super::NOW_MS;

pub(super) fn autoscale() -> pb::AutoscaleState {
    pb::AutoscaleState {
        service: "hello/hello".into(),
        mode: "approve".into(),
        wanted: 2,
        min: 1,
        max: 6,
        file_min: 1,
        file_max: 6,
        signals: vec![pb::SignalValue {
            signal: "cpu".into(),
            value: Some(0.86),
            target: 0.6,
            recommendation: Some(3),
        }],
        recommendation: Some(3),
        reasons: vec!["would be 3: waits for approval".into()],
        awaits_approval: Some(3),
        last_change: "1 -> 2  set by ana".into(),
        last_change_ms: NOW_MS - 60_000,
        ..Default::default()
    }
}

pub(super) fn decisions() -> pb::ListDecisionsResponse {
    let decision = pb::Decision {
        service: "hello/hello".into(),
        kind: "scale".into(),
        first_ms: NOW_MS - 60_000,
        last_ms: NOW_MS,
        count: 61,
        plan_version: 7,
        summary: "stays 2: cpu 58 % of target 60 % asks for 2".into(),
        record: Some(longshore_wire::to_struct(&serde_json::json!({"result": 2}))),
    };
    pb::ListDecisionsResponse {
        decisions: vec![decision],
    }
}

/// Does as an operator said.
pub(super) fn say(state: &mut pb::AutoscaleState, action: Action) -> Result<(), Status> {
    match action {
        Action::Pause(pause) => {
            state.paused = Some(pb::AutoscalePause {
                since_ms: NOW_MS,
                until_ms: match pause.for_ms {
                    0 => 0,
                    for_ms => NOW_MS + for_ms,
                },
                by: "ana".into(),
            });
        }
        Action::Resume(_) => state.paused = None,
        Action::Bounds(bounds) => {
            state.bounds = (!bounds.clear).then(|| pb::AutoscaleBounds {
                min: bounds.min,
                max: bounds.max,
                at_ms: NOW_MS,
                by: "ana".into(),
            });
        }
        Action::Approve(_) => {
            let count = state.awaits_approval.take();
            let count =
                count.ok_or_else(|| Status::failed_precondition("hello asks for nothing now"))?;
            state.approved = Some(pb::AutoscaleApproval {
                count,
                at_ms: NOW_MS,
                by: "ana".into(),
            });
        }
    }
    Ok(())
}

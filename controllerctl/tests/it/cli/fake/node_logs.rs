//! What the fake's nodes said.

use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::{Many, NOW_MS, World, many};

fn line(sequence: u64, level: &str, line: &str) -> pb::NodeLogsResponse {
    pb::NodeLogsResponse {
        start: 7,
        sequence,
        time_ms: NOW_MS + (sequence - 1) * 1_000,
        level: level.into(),
        line: line.into(),
        notice: String::new(),
    }
}

/// Two lines of node1, a third one for those who follow and come back; node2 is away.
pub(super) fn said(
    world: &mut World,
    request: &pb::NodeLogsRequest,
) -> Result<Many<pb::NodeLogsResponse>, Status> {
    let (after, tail) = ((request.after_start, request.after_sequence), request.tail);
    world.calls.push(format!(
        "said after {after:?} tail {tail:?} since {}",
        request.since_ms
    ));
    let notice = pb::NodeLogsResponse {
        notice: "the agent started again".into(),
        ..Default::default()
    };
    match (request.node.as_str(), after) {
        ("node1", (0, 0)) => Ok(many(vec![
            line(1, "info", "agent starts node=node1"),
            line(
                2,
                "warn",
                "no session\u{1b}[31m with the controller; everything here goes on",
            ),
        ])),
        ("node1", (7, 2)) => Ok(many(vec![notice, line(3, "info", "later")])),
        ("node1", _) => Err(Status::permission_denied("enough")),
        _ => Err(Status::failed_precondition(
            "the log of node2 cannot be read: not connected",
        )),
    }
}

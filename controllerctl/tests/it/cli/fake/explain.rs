//! What the fake tells about decisions, autoscalers, events and logs.

use longshore_model::Reason;
use longshore_model::reason::Refusal;
use longshore_proto::control::v1 as pb;
use pb::set_autoscale_request::Action;
use tonic::Status;

use super::{Many, NOW_MS, World, backoff};

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
            against: "of target 60 %".into(),
        }],
        recommendation: Some(3),
        reasons: vec!["would be 3: waits for approval".into()],
        awaits_approval: Some(3),
        last_change: "1 -> 2  set by ana".into(),
        last_change_ms: NOW_MS - 60_000,
        cause: "cpu 86 % of target 60 % asks for 3; waits for approval".into(),
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

fn stream<T: Send + 'static>(items: Vec<Result<T, Status>>) -> Many<T> {
    Box::pin(tokio_stream::iter(items))
}

/// Followed, it is cut after the first event, goes on with the second, and says no at last.
pub(super) fn events(world: &mut World, request: &pb::EventsRequest) -> Many<pb::EventsResponse> {
    let event = |sequence, message: &str| {
        Ok(pb::EventsResponse {
            sequence,
            time_ms: NOW_MS,
            r#type: "scaled".into(),
            message: message.into(),
            detail: None,
        })
    };
    let first = event(41, "hello/hello: 1 -> 2");
    if !request.follow {
        let said = [&request.types, &request.services, &request.nodes];
        if said.iter().any(|words| !words.is_empty()) {
            world.calls.push(format!("{said:?}"));
        }
        return stream(vec![first]);
    }
    world
        .calls
        .push(format!("events after {}", request.after_sequence));
    stream(match request.after_sequence {
        0 => vec![first],
        41 => vec![
            event(42, "hello/hello: 2 -> 3"),
            Err(Status::unavailable("restarting")),
        ],
        _ => vec![Err(Status::permission_denied("enough"))],
    })
}

/// As [`events`], with lines.
pub(super) fn logs(world: &mut World, request: &pb::LogsRequest) -> Many<pb::LogsResponse> {
    let said = |line: &str, notice: &str, time_ns| {
        Ok(pb::LogsResponse {
            name: "hello.1".into(),
            node: "node1".into(),
            replica_id: 7,
            line: line.into(),
            notice: notice.into(),
            time_ns,
            ..Default::default()
        })
    };
    let get = said("GET / \u{1b}[31m200\u{1b}[0m", "", 5);
    if !request.follow {
        return stream(vec![get, said("", "left (scaled in)", 0)]);
    }
    let marks: Vec<_> = request
        .marks
        .iter()
        .map(|mark| (mark.replica_id, mark.stderr, mark.time_ns, mark.lines))
        .collect();
    world
        .calls
        .push(format!("logs after {marks:?} tail {:?}", request.tail));
    stream(match marks.as_slice() {
        [] => vec![get, said("same time", "", 5)],
        [(7, false, 5, 2)] => vec![said("later", "", 9)],
        _ => vec![Err(Status::permission_denied("enough"))],
    })
}

/// What goes wrong with a service of this image.
pub(super) fn trouble(image: &str) -> Option<Reason> {
    match image {
        "broken" => Some(backoff()),
        "huge" | "absurd" => Some(Reason::Unplaceable {
            refusals: vec![(
                "node1".parse().unwrap(),
                Refusal::Memory {
                    free_bytes: 512 << 20,
                    asked_bytes: match image {
                        "huge" => 768 << 20,
                        _ => u64::MAX - 1,
                    },
                },
            )],
            counts: vec![],
            nodes: 1,
            home: None,
        }),
        "barred" => Some(Reason::NotRouted {
            edge: "edge".parse().unwrap(),
            detail: "port 8080 is taken by another program".into(),
        }),
        "deaf" => Some(Reason::NotReached {
            replicas: 1,
            slot: 1,
            node: "node1".parse().unwrap(),
            since_ms: 1_000,
            edges: vec![],
        }),
        _ => None,
    }
}

/// Two pieces of an edge's configuration, cut in the middle of a line.
pub(super) fn proxy_config(
    request: &pb::ProxyConfigRequest,
) -> Result<Many<pb::ProxyConfigResponse>, Status> {
    if !["", "edge1"].contains(&request.node.as_str()) {
        return Err(Status::not_found("there is no edge"));
    }
    let piece = |text: &str| {
        Ok(pb::ProxyConfigResponse {
            data: text.as_bytes().to_vec(),
        })
    };
    let last = match request.wanted {
        true => piece("conn 20\n"),
        false => piece("conn 10\n"),
    };
    Ok(stream(vec![piece("global\n    max"), last]))
}

/// Keeps replicas of hello/hello out of the routes, or lets them back.
pub(super) fn set_traffic(
    world: &mut World,
    request: &pb::SetReplicaTrafficRequest,
) -> Result<pb::SetReplicaTrafficResponse, Status> {
    let drain = request.traffic() == pb::ReplicaTraffic::Drain;
    let mut replicas = Vec::new();
    let mut changed = false;
    for word in &request.replicas {
        let name = format!("hello/{word}");
        if !word.starts_with("hello.") {
            return Err(Status::not_found(format!("there is no replica {word:?}")));
        }
        let known = world.aside.contains(&name);
        changed |= known != drain;
        world.aside.retain(|other| *other != name);
        if drain {
            world.aside.push(name.clone());
        }
        replicas.push(name);
    }
    if drain && world.aside.len() > 1 && !request.force {
        return Err(Status::failed_precondition("nobody else takes requests"));
    }
    let said = format!(
        "traffic {drain} {}: {}",
        replicas.join(" "),
        request.message
    );
    world.calls.push(said);
    Ok(pb::SetReplicaTrafficResponse { replicas, changed })
}

/// A replica as it is with what was said of it.
pub(super) fn kept_out(world: &World, mut replica: pb::Replica) -> pb::Replica {
    if world
        .aside
        .contains(&format!("{}.{}", replica.service, replica.slot))
    {
        replica.traffic = "drain".into();
        replica.sessions = world.sessions;
        replica.reason = "kept out of the routes by ana: disk swap".into();
        replica.aside = Some(pb::SetAside {
            since_ms: NOW_MS,
            by: "ana".into(),
            why: "disk swap".into(),
        });
    }
    replica
}

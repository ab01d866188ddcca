//! The configuration that an edge's HAProxy is loaded with, relayed through its session.

use longshore_model::{Desired, NodeId};
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::cluster::Cluster;
use crate::fleet::StreamEvent;
use crate::grpc::quoted;

/// Messages that wait for the operator.
const WAITING_MAX: usize = 16;

type Item = Result<pb::ProxyConfigResponse, Status>;

/// Serves `ProxyConfig`.
pub(super) fn config(
    cluster: &Cluster,
    request: &pb::ProxyConfigRequest,
) -> Result<ReceiverStream<Item>, Status> {
    let node = edge(&cluster.desired(), &request.node)?;
    let away = || Status::unavailable(format!("{node} is not connected"));
    let link = cluster.fleet.link(&node).ok_or_else(away)?;
    let kind = match request.wanted {
        true => agent::open_stream::Kind::ProxyWanted(agent::ProxyWantedStream {}),
        false => agent::open_stream::Kind::ProxyConfig(agent::ProxyConfigStream {}),
    };
    let opened = cluster.fleet.streams.open(&node, link.outbox, kind);
    let (guard, mut output) = opened.ok_or_else(|| {
        Status::resource_exhausted("too many streams are open, or the node does not keep up; retry")
    })?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        while let Some(event) = output.recv().await {
            let item = match event {
                StreamEvent::Data(_, data) => Ok(pb::ProxyConfigResponse { data }),
                StreamEvent::End(error, _) if !error.is_empty() => Err(Status::aborted(error)),
                StreamEvent::End(..) => break,
            };
            if sender.send(item).await.is_err() {
                break;
            }
        }
        drop(guard);
    });
    Ok(ReceiverStream::new(receiver))
}

/// The edge of this name; without a name, the only one.
fn edge(desired: &Desired, name: &str) -> Result<NodeId, Status> {
    let edges = desired.nodes.values().filter(|node| node.roles.edge);
    let edges: Vec<&NodeId> = edges.map(|node| &node.id).collect();
    let listed = || {
        let names = edges.iter().map(|id| id.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    match (name, edges.as_slice()) {
        (_, []) => Err(Status::not_found("there is no edge")),
        ("", [only]) => Ok((*only).clone()),
        ("", _) => Err(Status::invalid_argument(format!(
            "which edge? There are {}",
            listed()
        ))),
        (name, _) => {
            let found = edges.iter().find(|id| id.as_str() == name);
            let missing = || {
                let name = quoted(name);
                Status::not_found(format!("there is no edge {name}; there are {}", listed()))
            };
            found.map(|id| (*id).clone()).ok_or_else(missing)
        }
    }
}

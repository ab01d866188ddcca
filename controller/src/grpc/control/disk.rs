//! `DiskUse` and `RemoveVolume`: asked of nodes through their sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_model::{Desired, NodeId, Plan};
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use prost::Message;
use tokio::time::timeout;
use tonic::Status;

use super::{find, nodes};
use crate::cluster::Cluster;
use crate::fleet::StreamEvent;

/// Nodes of one call.
const NODES_MAX: usize = 256;
/// Volumes that a node is asked for by name.
const NAMED_MAX: usize = 4_096;
/// Longest answer of a node.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A node answers within it, or is said not to.
const ANSWER: Duration = Duration::from_secs(15);

/// What takes room.
pub(super) async fn disk_use(
    cluster: &Cluster,
    request: pb::DiskUseRequest,
) -> Result<pb::DiskUseResponse, Status> {
    let desired = cluster.desired();
    if request.nodes.len() > NODES_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {NODES_MAX} nodes can be asked at once"
        )));
    }
    let named = request.nodes.iter().map(|word| find::node(&desired, word));
    let named: BTreeSet<NodeId> = named.collect::<Result<_, _>>()?;
    let workers = desired.nodes.values().filter(|node| node.roles.worker);
    let asked: Vec<NodeId> = match named.is_empty() {
        true => workers.map(|node| node.id.clone()).collect(),
        false => named.into_iter().collect(),
    };
    let kind = agent::open_stream::Kind::Disk(agent::DiskStream {
        sizes: request.sizes,
        also: volumes_of(&desired),
    });
    let asking = asked.iter().take(NODES_MAX).map(|node| {
        let kind = kind.clone();
        async move { (node, ask(cluster, node, kind).await) }
    });
    let answers = futures_util::future::join_all(asking).await;
    let nodes = answers.into_iter().map(|(node, answer)| {
        let answer = answer.and_then(|bytes| {
            agent::DiskUse::decode(bytes.as_slice()).map_err(|error| error.to_string())
        });
        match answer {
            Ok(told) => node_disk((&desired, &cluster.view().plan), node, told),
            Err(problem) => pb::NodeDisk {
                node: node.to_string(),
                problem,
                ..Default::default()
            },
        }
    });
    Ok(pb::DiskUseResponse {
        nodes: nodes.collect(),
        store_bytes: cluster.store().bytes().unwrap_or(0),
    })
}

/// Removes a volume on one node.
pub(super) async fn remove_volume(
    cluster: &Cluster,
    request: pb::RemoveVolumeRequest,
    by: &str,
) -> Result<pb::RemoveVolumeResponse, Status> {
    let desired = cluster.desired();
    let node = find::node(&desired, &request.node)?;
    let name = request.name;
    let external = users(&desired, &name, true);
    if !external.is_empty() {
        let to = external.join(", ");
        return Err(Status::failed_precondition(format!(
            "{name} is external to {to}: it is made and removed by hand; on {node}: docker volume \
             rm {name}, or drop external from the file"
        )));
    }
    tracing::info!(by, %node, volume = name, "removing a volume");
    let volume = name.clone();
    let named = !users(&desired, &name, false).is_empty();
    let stream = agent::RemoveVolumeStream { name, named };
    let kind = agent::open_stream::Kind::RemoveVolume(stream);
    let refused = |why| Status::failed_precondition(format!("{node}: {why}"));
    ask(cluster, &node, kind).await.map_err(refused)?;
    nodes::volume_removed(cluster, &node, &volume).map_err(|refusal| refusal.0)?;
    Ok(pb::RemoveVolumeResponse {})
}

/// One short answer of a node.
async fn ask(
    cluster: &Cluster,
    node: &NodeId,
    kind: agent::open_stream::Kind,
) -> Result<Vec<u8>, String> {
    let link = cluster.fleet.link(node).ok_or("it is not connected")?;
    let opened = cluster.fleet.streams.open(node, link.outbox, kind);
    let (_guard, mut output) = opened.ok_or("too many streams are open; retry")?;
    let whole = async {
        let mut answer = Vec::new();
        while let Some(event) = output.recv().await {
            match event {
                StreamEvent::Data(_, data) => answer.extend(data),
                StreamEvent::End(error, _) if !error.is_empty() => return Err(error),
                StreamEvent::End(..) => break,
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err("its answer does not end".to_owned());
            }
        }
        Ok(answer)
    };
    let late = || format!("it did not answer within {} s", ANSWER.as_secs());
    timeout(ANSWER, whole).await.unwrap_or_else(|_| Err(late()))
}

fn node_disk(
    (desired, plan): (&Desired, &Plan),
    node: &NodeId,
    told: agent::DiskUse,
) -> pb::NodeDisk {
    let share = |share: Option<agent::DiskShare>| {
        share.map(|share| pb::DiskShare {
            count: share.count,
            active: share.active,
            bytes: share.bytes,
            reclaimable_bytes: share.reclaimable_bytes,
        })
    };
    let volume = |volume: agent::VolumeUse| pb::Volume {
        services: users(desired, &volume.name, false),
        external_to: users(desired, &volume.name, true),
        home: plan
            .homes
            .get(&volume.name)
            .is_some_and(|home| home.node == *node),
        name: volume.name,
        app: volume.app,
        driver: volume.driver,
        created: volume.created,
        used_by: volume.used_by,
    };
    pb::NodeDisk {
        node: node.to_string(),
        problem: String::new(),
        disk_bytes: told.disk_bytes,
        disk_free_bytes: told.disk_free_bytes,
        images: share(told.images),
        containers: share(told.containers),
        volumes: share(told.volumes),
        build_cache: share(told.build_cache),
        named: told.named.into_iter().map(volume).collect(),
    }
}

/// Services whose file names a volume; only those to which it is external.
fn users(desired: &Desired, name: &str, external: bool) -> Vec<String> {
    let services = desired.services().filter(|(_, _, spec)| {
        let mut mounts = spec.container.mounts.iter();
        mounts.any(|mount| {
            !mount.bind && mount.source == name && (mount.options.external || !external)
        })
    });
    services.map(|(key, ..)| key.to_string()).collect()
}

/// Volumes that files name.
fn volumes_of(desired: &Desired) -> Vec<String> {
    let services = desired.services();
    let mounts = services.flat_map(|(_, _, spec)| spec.container.mounts.iter());
    let named = mounts.filter(|mount| !mount.bind);
    let named: BTreeSet<&String> = named.map(|mount| &mount.source).collect();
    named.into_iter().take(NAMED_MAX).cloned().collect()
}

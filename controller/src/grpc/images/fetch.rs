//! Images that nodes fetch before they are needed there: what operators order by hand, and what
//! nodes ask for and say.

use std::time::Duration;

use longshore_model::observe::EngineState;
use longshore_model::{ImageDigest, ImageRef, NodeId};
use longshore_proto::images::v1 as pb;
use tokio::time::timeout;
use tonic::Status;

use super::super::quoted;
use super::{Images, few, name};
use crate::cluster::Cluster;
use crate::images::{Ahead, AheadState, Scene, Seen};

/// Images that a node may speak of.
const SEEN_MAX: usize = 64;
/// Longest detail that is kept.
const DETAIL_CHARS_MAX: usize = 500;
/// Longest wait for more.
const WAIT_MS_MAX: u32 = 20_000;
/// Nodes of one order.
const NODES_MAX: usize = 64;

fn image_of(image: pb::AheadImage) -> Result<ImageRef, Status> {
    let digest = image.digest.map(|text| text.parse::<ImageDigest>());
    let digest = digest.transpose();
    Ok(ImageRef {
        digest: digest.map_err(|error| Status::invalid_argument(format!("a digest {error}")))?,
        name: image.image,
    })
}

fn seen_of(seen: pb::AheadSeen) -> Result<Seen, Status> {
    let state = match seen.state() {
        pb::AheadState::Waiting => AheadState::Waiting,
        pb::AheadState::Fetching => AheadState::Fetching,
        pb::AheadState::Here => AheadState::Here,
        pb::AheadState::Failed => AheadState::Failed,
        pb::AheadState::Unspecified => AheadState::Ordered,
    };
    let image = seen.image.unwrap_or_default();
    Ok(Seen {
        asked_ms: image.asked_ms,
        image: image_of(image)?,
        state,
        detail: seen.detail.chars().take(DETAIL_CHARS_MAX).collect(),
    })
}

pub(super) fn wanted(cluster: &Cluster, node: &NodeId) -> Vec<Ahead> {
    let (desired, view) = (cluster.desired(), cluster.view());
    let observed = cluster.fleet.snapshot();
    let scene = Scene {
        desired: &desired,
        plan: &view.plan,
        observed: &observed,
        now_ms: cluster.now_ms(),
    };
    cluster.ahead.wanted(node, scene)
}

impl Images {
    /// What a node is to have; waits where it knows all of that.
    pub(super) async fn ahead_of(
        &self,
        node: &NodeId,
        request: pb::ListAheadRequest,
    ) -> Result<Vec<Ahead>, Status> {
        few("seen", request.seen.len(), SEEN_MAX)?;
        let seen = request.seen.into_iter().map(seen_of);
        let seen = seen.collect::<Result<Vec<_>, _>>()?;
        let known: Vec<(ImageRef, u64)> = seen
            .iter()
            .map(|seen| (seen.image.clone(), seen.asked_ms))
            .collect();
        // From before the look: an order in between is not missed.
        let mut orders = self.cluster.ahead.orders();
        orders.mark_unchanged();
        self.cluster.ahead.told(node, seen);
        let wait = Duration::from_millis(request.wait_ms.min(WAIT_MS_MAX).into());
        let more = async {
            loop {
                let wanted = wanted(&self.cluster, node);
                let mut keys = wanted.iter().map(|w| (w.image.clone(), w.why.asked_ms()));
                if keys.any(|key| !known.contains(&key)) || orders.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = timeout(wait, more) => {}
            () = self.cluster.stopping.cancelled() => {}
        }
        Ok(wanted(&self.cluster, node))
    }

    /// Has nodes fetch an image of the controller.
    pub(super) fn order(
        &self,
        request: &pb::FetchImageRequest,
        by: &str,
    ) -> Result<pb::FetchImageResponse, Status> {
        few("nodes", request.nodes.len(), NODES_MAX)?;
        let name = name(&request.name)?;
        let catalog = self.cluster.images();
        let (digest, image) = catalog.resolve(&name).ok_or_else(|| {
            let name = quoted(&request.name);
            Status::not_found(format!("no image {name} is held; push it first"))
        })?;
        let (desired, observed) = (self.cluster.desired(), self.cluster.fleet.snapshot());
        let mut nodes = Vec::new();
        for text in &request.nodes {
            let refused = |why: &str| {
                let text = quoted(text);
                Status::failed_precondition(format!("{name}: node {text} {why}"))
            };
            let node = text.parse::<NodeId>().ok();
            let node = node.and_then(|id| desired.nodes.get(&id));
            let node = node.ok_or_else(|| {
                Status::not_found(format!("there is no node {}: see node ls", quoted(text)))
            })?;
            if !node.roles.worker {
                return Err(refused("is no worker: no container runs there"));
            }
            let seen = observed.nodes.get(&node.id);
            let Some(seen) = seen.filter(|seen| seen.session.connected) else {
                return Err(refused("is not connected"));
            };
            if seen.engine != EngineState::Ok {
                return Err(refused("has an engine that does not answer"));
            }
            let (os, arch) = (&seen.capacity.os, &seen.capacity.arch);
            if !image.platform.runs_on(os, arch) {
                let platform = &image.platform;
                return Err(refused(&format!(
                    "is {os}/{arch}, and the image is for {platform}"
                )));
            }
            nodes.push(node.id.clone());
        }
        let image = ImageRef {
            name: name.to_string(),
            digest: Some(digest.clone()),
        };
        self.cluster
            .ahead
            .order(&nodes, &image, by, self.cluster.now_ms());
        Ok(pb::FetchImageResponse {
            name: image.name,
            manifest_digest: digest.to_string(),
        })
    }
}

//! `AgentService`: opens sessions.

use std::sync::Arc;

use longshore_identity::Identity;
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::agent_service_server::AgentService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::session::{self, Caller};
use super::{auth, enroll};
use crate::cluster::Cluster;

/// Messages that wait between a session and its connection.
const RESPONSES_MAX: usize = 4;

/// See the module.
pub(super) struct Agent {
    cluster: Arc<Cluster>,
}

impl Agent {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

#[tonic::async_trait]
impl AgentService for Agent {
    type SessionStream = ReceiverStream<Result<pb::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        // Whatever an agent says is about the node of its certificate; no message names a node.
        let Some(Identity::Node(node)) = auth::peer(&request)?.identity else {
            return Err(Status::permission_denied("only nodes have sessions"));
        };
        let desired = self.cluster.desired();
        let edge = desired
            .nodes
            .get(&node)
            .ok_or_else(|| enroll::removed(&node))?
            .roles
            .edge;
        let (responses, stream) = mpsc::channel(RESPONSES_MAX);
        let caller = Caller { node, edge };
        tokio::spawn(session::run(
            Arc::clone(&self.cluster),
            caller,
            request.into_inner(),
            responses,
        ));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

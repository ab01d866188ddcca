//! What controllers tell nodes: small, so that states are, and made into the real thing for the
//! ledger.

use std::sync::Arc;

use longshore_model::plan::AssignedReplica;
use longshore_model::{Assignment, ReplicaId, Routes, ServiceKey, TemplateId};
use longshore_wire::Fence;

/// A plan for a node, and under which leadership it is sent. Ordered as the fence orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// Of the cluster: rises with a restore.
    pub cluster_generation: u64,
    /// Of the leadership.
    pub term: u64,
    /// Of the content: rises with each change.
    pub version: u64,
    /// Which change it is that made this content.
    pub content: u8,
}

impl Message {
    /// The fence that it carries.
    #[must_use]
    pub const fn fence(self) -> Fence {
        Fence {
            cluster_generation: self.cluster_generation,
            term: self.term,
        }
    }

    /// As an edge gets it.
    #[must_use]
    pub fn routes(self) -> Arc<Routes> {
        // Contents differ, and that is all that the ledger looks at.
        let closed = vec![key(self.content)];
        let generation = self.version;
        Arc::new(Routes {
            generation,
            closed,
            ..Routes::default()
        })
    }

    /// As a worker gets it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a constant that is a template id")]
    pub fn assignment(self) -> Arc<Assignment> {
        let replica = AssignedReplica {
            id: ReplicaId(self.content.into()),
            service: key(self.content),
            slot: 1,
            revision: 1,
            template: TemplateId::new("0123456789abcdef").expect("16 digits"),
            ports: Vec::new(),
            stop: false,
            paused: false,
            ended: false,
        };
        Arc::new(Assignment {
            generation: self.version,
            replicas: vec![replica],
            ..Assignment::default()
        })
    }
}

#[expect(clippy::expect_used, reason = "two constant names and a number")]
fn key(content: u8) -> ServiceKey {
    let text = format!("app/change-{content}");
    text.parse().expect("a service key")
}

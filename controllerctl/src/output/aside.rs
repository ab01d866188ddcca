//! What is said of replicas that an operator keeps out of the routes.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::views::time;

/// An operator's word about a replica.
#[derive(Debug, Serialize)]
pub struct Aside {
    /// Since when.
    pub since: Option<String>,
    /// By whom.
    pub by: String,
    /// Why, in their words.
    pub why: Option<String>,
}

impl From<&pb::SetAside> for Aside {
    fn from(said: &pb::SetAside) -> Self {
        Self {
            since: time(said.since_ms),
            by: said.by.clone(),
            why: (!said.why.is_empty()).then(|| said.why.clone()),
        }
    }
}

/// `by ana: disk swap`
impl std::fmt::Display for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            None => write!(f, "by {}", self.by),
            Some(why) => write!(f, "by {}: {why}", self.by),
        }
    }
}

/// `proxy drain`, `proxy ready`
#[derive(Debug, Serialize)]
pub struct TrafficSet {
    /// app/service.slot
    pub replicas: Vec<String>,
    /// drain, serve
    pub traffic: &'static str,
    /// Nobody has a session on them any more; false: not waited for.
    pub done: bool,
}

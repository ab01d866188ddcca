//! What verbs that change something say on stdout with `-o json`: one document each, once it is
//! settled how the call ended. People read the same on stderr.

use serde::Serialize;

/// `up`
#[derive(Debug, Serialize)]
pub struct Applied {
    /// App.
    pub app: String,
    /// Its revision now.
    pub revision: u64,
    /// It is as wanted; false: accepted, and not waited for.
    pub done: bool,
    /// Where its services answer.
    pub urls: Vec<String>,
}

/// `down`
#[derive(Debug, Serialize)]
pub struct TakenDown {
    /// App.
    pub app: String,
    /// Replicas that it had.
    pub replicas: u32,
    /// Nothing is left; false: accepted, and not waited for.
    pub done: bool,
    /// Volumes that were removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<super::disk::Volume>,
}

/// `scale`
#[derive(Debug, Serialize)]
pub struct Scaled {
    /// Each service's count.
    pub services: Vec<Count>,
    /// So many serve; false: accepted, and not waited for.
    pub done: bool,
}

/// A count that was set.
#[derive(Debug, Serialize)]
pub struct Count {
    /// Service.
    pub service: String,
    /// Count before.
    pub from: u32,
    /// Count wanted now.
    pub to: u32,
    /// Count asked for, where the service's bounds allow another only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
}

/// `wait`
#[derive(Debug, Serialize)]
pub struct Waited {
    /// App, service, replica or node.
    pub target: String,
    /// What was waited for.
    pub state: &'static str,
    /// It holds; false: waiting was broken off.
    pub done: bool,
}

/// `node cordon`, `node uncordon`
#[derive(Debug, Serialize)]
pub struct NodeSet {
    /// Node.
    pub node: String,
    /// `active`, `cordoned`, `draining`
    pub availability: &'static str,
}

/// `version`
#[derive(Debug, Serialize)]
pub struct Version {
    /// This program's version.
    pub version: &'static str,
}

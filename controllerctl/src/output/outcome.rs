//! What verbs that change something say on stdout with `-o json`: one document each, once it is
//! settled how the call ended. People read the same on stderr.

use longshore_proto::control::v1 as pb;
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
    /// External ones, which stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<super::disk::Volume>,
}

/// `node rm`
#[derive(Debug, Serialize)]
pub struct NodeRemoved {
    /// Node.
    pub node: String,
    /// Volumes whose data went with it.
    pub given_up: Vec<GivenUp>,
}

/// A volume whose data goes with its node.
#[derive(Debug, Serialize)]
pub struct GivenUp {
    /// As engines call it.
    pub volume: String,
    /// That it held there.
    pub services: Vec<String>,
    /// Nodes that have another copy.
    pub copies: Vec<String>,
}

impl From<&pb::NodeVolume> for GivenUp {
    fn from(volume: &pb::NodeVolume) -> Self {
        Self {
            volume: volume.name.clone(),
            services: volume.services.clone(),
            copies: volume.copies.clone(),
        }
    }
}

impl GivenUp {
    /// What becomes of it.
    #[must_use]
    pub fn line(&self) -> String {
        let of = match self.services.is_empty() {
            true => String::new(),
            false => format!(" (of {})", self.services.join(", ")),
        };
        let next = match self.copies.as_slice() {
            [] => "what needs it begins with an empty one".to_owned(),
            [copy] => format!("what needs it goes on with the copy on {copy}"),
            copies => format!(
                "what needs it goes on with the copy that was made last of those on {}",
                copies.join(", ")
            ),
        };
        format!("the data of volume {}{of} is given up: {next}", self.volume)
    }
}

/// `restart`
#[derive(Debug, Serialize)]
pub struct Restarted {
    /// Services, as app/service.
    pub services: Vec<String>,
    /// The app's revision now.
    pub revision: u64,
    /// All have new replicas; false: accepted, and not waited for.
    pub done: bool,
    /// What it came to as it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<super::planned::Plan>,
}

/// `scale`
#[derive(Debug, Serialize)]
pub struct Scaled {
    /// Each service's count.
    pub services: Vec<Count>,
    /// What it came to as it was asked for, where there was a question, app by app.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<super::planned::Plan>,
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

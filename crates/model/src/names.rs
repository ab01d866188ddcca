//! Names of services: what every worker must know to take connections to any service by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ReplicaId, ServiceKey};

/// Most services of one directory.
pub const NAMES_MAX: usize = 4096;
/// Most ports of one service that are taken by name.
pub const PORTS_MAX: usize = 64;

/// The directory of names, whole: the same on every worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Names {
    /// Rises with every change of content.
    pub generation: u64,
    /// At most [`NAMES_MAX`].
    pub services: BTreeMap<ServiceKey, Named>,
}

/// One service that is reached by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name address: the same on every node as long as the service exists.
    pub address: Ipv4Addr,
    /// TCP ports that are taken there, at most [`PORTS_MAX`].
    pub ports: BTreeSet<u16>,
    /// Those that may take new connections, in id order.
    pub replicas: Vec<NamedReplica>,
}

/// One replica of a named service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedReplica {
    /// Its id.
    pub replica: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// That node's address.
    pub address: IpAddr,
    /// Port on which that node's agent takes connections of other agents.
    pub peer_port: u16,
}

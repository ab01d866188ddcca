//! What an edge must serve: all frontends, backends and servers, whole.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::{ReplicaId, ServiceKey};
use crate::spec::RouteSpec;

/// All that one edge must serve. An edge obeys the highest (term, generation) only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Routes {
    /// Rises with every change of content.
    pub generation: u64,
    /// Backends in (service, listen port) order.
    pub backends: Vec<Backend>,
    /// Services that go on without any way in, because their file says so by now: no mistake of
    /// this list. In order, at most [`CLOSED_MAX`].
    #[serde(default)]
    pub closed: Vec<ServiceKey>,
}

/// Most services of which routes say that their ways in were closed.
pub const CLOSED_MAX: usize = 1_024;

/// One way in and the servers behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// The service.
    pub service: ServiceKey,
    /// The way in.
    pub route: RouteSpec,
    /// Its servers in replica order.
    pub servers: Vec<Server>,
    /// Something waits at some edge for those that leave, and nobody else serves: until that is over,
    /// all edges let them in, so that none answers new requests with 503 while they run.
    #[serde(default)]
    pub holds: bool,
}

/// One replica behind a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node's address.
    pub address: IpAddr,
    /// Its published port.
    pub port: u16,
    /// Takes new requests, or finishes what it has.
    pub mode: ServerMode,
    /// Its weight among the servers of its backend, where they differ: 1 to
    /// [`crate::weight::WEIGHT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
}

/// What a server in a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMode {
    /// Takes requests once HAProxy's own check agrees.
    Serve,
    /// Takes nothing new; sessions finish.
    Drain,
}

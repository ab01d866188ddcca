//! The routes that an edge is told.

use longshore_model::ReplicaId;
use longshore_model::routes::{Backend, CLOSED_MAX, Routes, Server, ServerMode};
use longshore_proto::agent::v1 as pb;

use crate::agent::{Fence, REPLICAS_MAX, TEMPLATES_MAX};
use crate::error::{WireError, invalid, list, named, port, required};
use crate::route::{route_from_pb, route_spec_to_pb};

/// To the wire.
#[must_use]
pub fn routes_to_pb(routes: &Routes, fence: Fence) -> pb::Routes {
    let server = |server: &Server| pb::Server {
        replica_id: server.replica.0,
        address: server.address.to_string(),
        port: server.port.into(),
        mode: match server.mode {
            ServerMode::Serve => pb::ServerMode::Serve,
            ServerMode::Drain => pb::ServerMode::Drain,
        }
        .into(),
        weight: server.weight.unwrap_or(0).into(),
    };
    pb::Routes {
        fence: Some(fence.into()),
        generation: routes.generation,
        backends: routes
            .backends
            .iter()
            .map(|backend| pb::Backend {
                service: backend.service.to_string(),
                route: Some(route_spec_to_pb(&backend.route)),
                servers: backend.servers.iter().map(server).collect(),
                holds: backend.holds,
            })
            .collect(),
        closed: routes.closed.iter().map(ToString::to_string).collect(),
    }
}

/// From the wire, checked.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn routes_from_pb(message: pb::Routes) -> Result<(Fence, Routes), WireError> {
    let fence = required("fence", message.fence)?.into();
    let backends = list("backends", TEMPLATES_MAX, message.backends, |backend| {
        Ok(Backend {
            service: backend.service.parse().map_err(named("backends.service"))?,
            route: route_from_pb(required("backends.route", backend.route)?)?,
            servers: list(
                "backends.servers",
                REPLICAS_MAX,
                backend.servers,
                server_from,
            )?,
            holds: backend.holds,
        })
    })?;
    Ok((
        fence,
        Routes {
            generation: message.generation,
            backends,
            closed: list("closed", CLOSED_MAX, message.closed, |service| {
                service.parse().map_err(named("closed"))
            })?,
        },
    ))
}

fn server_from(server: pb::Server) -> Result<Server, WireError> {
    let mode = match server.mode() {
        pb::ServerMode::Serve => ServerMode::Serve,
        pb::ServerMode::Drain => ServerMode::Drain,
        pb::ServerMode::Unspecified => return Err(invalid("servers.mode", "is not known")),
    };
    let address = server
        .address
        .parse()
        .map_err(|_| invalid("servers.address", "is no IP address"))?;
    let port = port("servers.port", server.port)?;
    // What a weight may be is the edge's to check, server by server.
    let weight =
        u8::try_from(server.weight).map_err(|_| invalid("servers.weight", "is above 255"))?;
    Ok(Server {
        replica: ReplicaId(server.replica_id),
        address,
        port,
        mode,
        weight: (weight > 0).then_some(weight),
    })
}

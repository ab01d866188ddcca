//! What the containers of a node reach by name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use longshore_model::names::{
    HOSTS_MAX, NAMES_MAX, Named, NamedReplica, Names, PORTS_MAX, REVOKED_MAX,
};
use longshore_model::{NodeId, ReplicaId, ServiceKey};
use longshore_proto::agent::v1 as pb;

use crate::agent::{Fence, REPLICAS_MAX};
use crate::error::{WireError, invalid, list, named, port, required};

/// Longest name of a host.
const HOST_BYTES_MAX: usize = 253;
/// Longest serial, in hexadecimal.
const SERIAL_BYTES_MAX: usize = 64;

/// To the wire.
#[must_use]
pub fn names_to_pb(names: &Names, fence: Fence) -> pb::Names {
    let replica = |replica: &NamedReplica| pb::NamedReplica {
        replica_id: replica.replica.0,
        node_id: replica.node.to_string(),
        address: replica.address.to_string(),
        peer_port: replica.peer_port.into(),
    };
    let service = |(key, named): (&ServiceKey, &Named)| {
        let hosts = named.hosts.iter();
        pb::Named {
            service: key.to_string(),
            address: named.address.to_string(),
            ports: named.ports.iter().map(|port| u32::from(*port)).collect(),
            replicas: named.replicas.iter().map(replica).collect(),
            hosts: hosts
                .map(|(name, address)| (name.clone(), address.to_string()))
                .collect(),
            drain_ms: named.drain_ms,
        }
    };
    pb::Names {
        fence: Some(fence.into()),
        generation: names.generation,
        services: names.services.iter().map(service).collect(),
        revoked_serials: names.revoked.iter().cloned().collect(),
    }
}

/// From the wire, checked.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn names_from_pb(message: pb::Names) -> Result<(Fence, Names), WireError> {
    let fence = required("fence", message.fence)?.into();
    let services = list("services", NAMES_MAX, message.services, service)?;
    let revoked = list(
        "revoked_serials",
        REVOKED_MAX,
        message.revoked_serials,
        |serial| short("revoked_serials", SERIAL_BYTES_MAX, serial),
    )?;
    let names = Names {
        generation: message.generation,
        services: services.into_iter().collect(),
        revoked: revoked.into_iter().collect(),
    };
    Ok((fence, names))
}

fn service(service: pb::Named) -> Result<(ServiceKey, Named), WireError> {
    let key: ServiceKey = service.service.parse().map_err(named("services.service"))?;
    let ports = list("services.ports", PORTS_MAX, service.ports, |number| {
        port("services.ports", number)
    })?;
    let hosts: Vec<(String, String)> = service.hosts.into_iter().collect();
    let hosts = list("services.hosts", HOSTS_MAX, hosts, |(name, at)| {
        host("services.hosts", name, &at)
    })?;
    let named = Named {
        address: address("services.address", &service.address)?,
        ports: ports.into_iter().collect(),
        replicas: list("services.replicas", REPLICAS_MAX, service.replicas, replica)?,
        hosts: hosts.into_iter().collect::<BTreeMap<_, _>>(),
        drain_ms: service.drain_ms,
    };
    Ok((key, named))
}

/// A name that a container is told, and its address.
pub(crate) fn host(
    field: &'static str,
    name: String,
    at: &str,
) -> Result<(String, Ipv4Addr), WireError> {
    let name = short(field, HOST_BYTES_MAX, name)?;
    // It becomes a word of a file.
    if name.is_empty() || name.contains(|c: char| !c.is_ascii_graphic() || c == ':') {
        return Err(invalid(field, format!("{name:?} is no name")));
    }
    Ok((name, address(field, at)?))
}

fn replica(replica: pb::NamedReplica) -> Result<NamedReplica, WireError> {
    let field = "services.replicas.peer_port";
    let address = replica.address.parse();
    Ok(NamedReplica {
        replica: ReplicaId(replica.replica_id),
        node: NodeId::new(replica.node_id).map_err(named("services.replicas.node_id"))?,
        address: address.map_err(|_| invalid("services.replicas.address", "is no IP address"))?,
        peer_port: match replica.peer_port {
            0 => 0,
            number => port(field, number)?,
        },
    })
}

fn address(field: &'static str, text: &str) -> Result<Ipv4Addr, WireError> {
    let address = text.parse();
    address.map_err(|_| invalid(field, format!("{text:?} is no IPv4 address")))
}

fn short(field: &'static str, max: usize, text: String) -> Result<String, WireError> {
    if text.len() > max {
        return Err(invalid(field, format!("longer than {max} bytes")));
    }
    Ok(text)
}

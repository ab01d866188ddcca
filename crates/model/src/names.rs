//! Services by name: where containers find the other services of the cluster.
//!
//! Each service has one address out of a range that every worker takes as its own, so that the agent
//! of the caller's node answers there and picks a replica (docs/names.md).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::id::{NodeId, ReplicaId, ServiceKey, ServiceName};
use crate::networks::names_seen;

/// Most services that one node is told of.
pub const NAMES_MAX: usize = 4_096;
/// Most ports of one service.
pub const PORTS_MAX: usize = 64;
/// Most names that one container is told.
pub const HOSTS_MAX: usize = 1_024;
/// Most refused certificates that nodes are told of.
pub const REVOKED_MAX: usize = 4_096;
/// Port on which agents reach each other where nothing else was said.
pub const PEER_PORT: u16 = 7_447;
/// Most numbers that one app keeps, those of services that it no longer has included.
const NUMBERS_MAX: usize = 1_024;
/// First address of the range; all of them begin with these two bytes, unless a node has another
/// range.
pub const RANGE: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 0);
/// Bits of the range that all its addresses share.
pub const RANGE_BITS: u8 = 16;

/// What the containers of one node reach by name, whole: the services of the apps that have replicas
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Names {
    /// Rises with every change of content under one leadership.
    pub generation: u64,
    /// At most [`NAMES_MAX`].
    pub services: BTreeMap<ServiceKey, Named>,
    /// Serials of certificates that no node takes any more, at most [`REVOKED_MAX`].
    #[serde(default)]
    pub revoked: BTreeSet<String>,
}

/// One service that is reached by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name address in the usual range, as long as the service exists; a node with another range
    /// moves it there.
    pub address: Ipv4Addr,
    /// TCP ports that are taken there, at most [`PORTS_MAX`]: those of its file and of its image.
    pub ports: BTreeSet<u16>,
    /// Those that may take new connections, in id order.
    pub replicas: Vec<NamedReplica>,
    /// Names that its own containers are told when they are made, at most [`HOSTS_MAX`]; empty where
    /// it has none on this node. They are no part of a template: other names make no replica new.
    #[serde(default)]
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// Once a replica is to stop, those who reached it by name get so long to finish.
    #[serde(default)]
    pub drain_ms: u64,
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
    /// Port on which that node's agent takes connections of other agents; 0: it takes none.
    pub peer_port: u16,
}

/// The address with a number.
#[must_use]
pub fn address(number: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(RANGE) | u32::from(number))
}

/// The names that containers of a service find others of its app by, its own included, with their
/// addresses: [`names_seen`] says which. Nobody is found by a name that every container has for itself.
#[must_use]
pub fn hosts(app: &App, service: &ServiceName) -> BTreeMap<String, Ipv4Addr> {
    let seen = names_seen(&app.services, service).into_iter();
    let seen = seen.filter(|(word, _)| word != "localhost");
    let found = seen.filter_map(|(word, name)| Some((word, address(*app.numbers.get(&name)?))));
    found.take(HOSTS_MAX).collect()
}

/// All addresses are given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no name address is left for service {0}: all 65,534 are given to services; apps that are taken \
     down give theirs back"
)]
pub struct NoneLeft(pub ServiceName);

/// Gives each of an app's services a number, beside those `taken` by other apps. A service keeps its
/// number, also over a time in which the file does not have it: containers that were made before then
/// know its name by the address, and must not find another service there.
///
/// # Errors
/// [`NoneLeft`].
pub fn numbered<'s>(
    known: &BTreeMap<ServiceName, u16>,
    services: impl Iterator<Item = &'s ServiceName>,
    taken: &BTreeSet<u16>,
) -> Result<BTreeMap<ServiceName, u16>, NoneLeft> {
    let services: BTreeSet<&ServiceName> = services.collect();
    let mut numbers = known.clone();
    let mut used: BTreeSet<u16> = taken.iter().chain(known.values()).copied().collect();
    // 0 is the range itself, the last one its broadcast address.
    let mut free = 1..u16::MAX;
    for name in &services {
        if numbers.contains_key(*name) {
            continue;
        }
        let next = free.find(|number| !used.contains(number));
        // Before that, those that the file no longer has go without.
        let next = next.or_else(|| spare(&mut numbers, &services));
        let next = next.ok_or_else(|| NoneLeft((*name).clone()))?;
        used.insert(next);
        numbers.insert((*name).clone(), next);
    }
    while numbers.len() > NUMBERS_MAX && spare(&mut numbers, &services).is_some() {}
    Ok(numbers)
}

/// Takes a number back from one of those that are not among `services`.
fn spare(
    numbers: &mut BTreeMap<ServiceName, u16>,
    services: &BTreeSet<&ServiceName>,
) -> Option<u16> {
    let gone = numbers
        .keys()
        .find(|name| !services.contains(name))?
        .clone();
    numbers.remove(&gone)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ServiceSpec;

    fn names(list: &[&str]) -> Vec<ServiceName> {
        list.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn next(
        known: &BTreeMap<ServiceName, u16>,
        services: &[&str],
        taken: &[u16],
    ) -> BTreeMap<ServiceName, u16> {
        let taken = taken.iter().copied().collect();
        numbered(known, names(services).iter(), &taken).unwrap()
    }

    #[test]
    fn a_number_stays_and_is_nobody_elses() {
        let first = next(&BTreeMap::new(), &["api", "web"], &[1, 3]);
        assert_eq!(first.values().copied().collect::<Vec<_>>(), [2, 4]);
        let without = next(&first, &["web"], &[1, 3]);
        let after = next(&without, &["web", "redis", "api"], &[1, 3]);
        for (name, number) in &first {
            assert_eq!(after[name], *number, "{name}");
        }
        assert_eq!(after[&names(&["redis"])[0]], 5);
    }

    #[test]
    fn numbers_of_services_that_are_gone_are_bounded() {
        let mut known = BTreeMap::new();
        for round in 0..NUMBERS_MAX + 50 {
            known = next(&known, &[&format!("s{round}")], &[]);
        }
        assert_eq!(known.len(), NUMBERS_MAX);
        assert_eq!(address(258), Ipv4Addr::new(10, 213, 1, 2));
    }

    #[test]
    fn the_last_number_is_given_and_then_it_is_said_that_there_is_none() {
        let all: BTreeSet<u16> = (1..u16::MAX - 2).collect();
        let two = names(&["a", "b"]);
        let numbers = numbered(&BTreeMap::new(), two.iter(), &all).unwrap();
        assert_eq!(numbers[&two[1]], u16::MAX - 1);
        let three = names(&["a", "b", "c"]);
        let refused = numbered(&numbers, three.iter(), &all).unwrap_err();
        assert_eq!(refused, NoneLeft(three[2].clone()));
        // What the file no longer has gives its own up first.
        let other = names(&["b", "c"]);
        let numbers = numbered(&numbers, other.iter(), &all).unwrap();
        assert_eq!(numbers[&other[0]], u16::MAX - 1);
        assert_eq!(numbers[&other[1]], u16::MAX - 2);
    }

    #[test]
    fn a_service_finds_all_of_its_app() {
        let spec =
            r#"{"container": {"image": "a", "stop_grace_ms": 1}, "replicas": 1, "drain_ms": 1}"#;
        let spec: Arc<ServiceSpec> = Arc::new(serde_json::from_str(spec).unwrap());
        let services = ["localhost", "redis", "web"].map(|name| {
            let name: ServiceName = name.parse().unwrap();
            (name, Arc::clone(&spec))
        });
        let numbers = [("localhost", 1), ("redis", 7), ("web", 300)];
        let app = App {
            name: "shop".parse().unwrap(),
            revision: 1,
            services: services.into_iter().collect(),
            applied_ms: 1,
            applied_by: "ana".into(),
            numbers: numbers
                .map(|(name, number)| (name.parse().unwrap(), number))
                .into(),
        };
        let of = |service: &str| hosts(&app, &service.parse().unwrap());
        let all = [("redis", [10, 213, 0, 7]), ("web", [10, 213, 1, 44])];
        let all = all.map(|(name, address)| (name.to_owned(), Ipv4Addr::from(address)));
        assert_eq!(of("web"), all.clone().into());
        assert_eq!(of("redis"), all.into());
        assert_eq!(of("other"), BTreeMap::new());
    }
}

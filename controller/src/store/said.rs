//! What nodes said last and names depend on: rows by `node/NAME` and `service/APP/NAME`. A controller that
//! begins anew has them before it has heard of anybody, and of nodes that it does not hear of.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::{NodeId, ServiceKey};

use super::repository::{Repository, bad_key, put, read_all, remove, write_rows};
use super::{Change, Store, StoreError, Table};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Ports on which agents reach each other, by node.
    pub peer_ports: BTreeMap<NodeId, u16>,
    /// Ports that the images of services listen on.
    pub exposed: BTreeMap<ServiceKey, BTreeSet<u16>>,
}

/// All of it.
pub(super) fn load(store: &dyn Store) -> Result<Said, StoreError> {
    let mut said = Said::default();
    read_all(store, Table::Said, |key, ports: BTreeSet<u16>| {
        let bad = || bad_key(Table::Said, key.as_bytes());
        let (kind, name) = key.split_once('/').ok_or_else(bad)?;
        match kind {
            "node" => {
                let node = name.parse().map_err(|_| bad())?;
                said.peer_ports
                    .extend(ports.first().map(|port| (node, *port)));
            }
            "service" => {
                said.exposed.insert(name.parse().map_err(|_| bad())?, ports);
            }
            _ => return Err(bad()),
        }
        Ok(())
    })?;
    Ok(said)
}

fn rows(said: &Said) -> BTreeMap<String, BTreeSet<u16>> {
    let nodes = said.peer_ports.iter();
    let nodes = nodes.map(|(node, port)| (format!("node/{node}"), [*port].into()));
    let services = said.exposed.iter();
    let services = services.map(|(key, ports)| (format!("service/{key}"), ports.clone()));
    nodes.chain(services).collect()
}

impl Repository {
    /// Writes what differs between what is stored and what was said since.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_said(&mut self, stored: &Said, next: &Said) -> Result<(), StoreError> {
        let (stored, next) = (rows(stored), rows(next));
        let gone = stored.keys().filter(|key| !next.contains_key(*key));
        let mut changes: Vec<Change> = gone
            .map(|key| remove(Table::Said, key.as_bytes()))
            .collect();
        for (key, ports) in &next {
            if stored.get(key) != Some(ports) {
                changes.push(put(Table::Said, key.as_bytes(), ports)?);
            }
        }
        write_rows(self, changes)
    }
}

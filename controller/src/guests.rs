//! Containers that run once beside the plan: on which nodes, of which apps. Their nodes are told the
//! names of those apps' services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_model::{AppName, NodeId};

/// Apps by node.
pub type GuestApps = BTreeMap<NodeId, BTreeSet<AppName>>;

/// All that run now, by id.
#[derive(Debug, Default, Clone)]
pub struct Guests(Arc<Mutex<BTreeMap<String, (NodeId, AppName)>>>);

/// One that runs; dropped, it runs no more.
#[derive(Debug)]
pub struct Guest {
    id: String,
    guests: Guests,
}

impl Guests {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, (NodeId, AppName)>> {
        // A map is whole after every change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One comes.
    #[must_use]
    pub fn come(&self, id: &str, node: NodeId, app: AppName) -> Guest {
        self.all().insert(id.to_owned(), (node, app));
        Guest {
            id: id.to_owned(),
            guests: self.clone(),
        }
    }

    /// Where which apps have one.
    #[must_use]
    pub fn apps(&self) -> GuestApps {
        let mut apps = GuestApps::new();
        for (node, app) in self.all().values() {
            apps.entry(node.clone()).or_default().insert(app.clone());
        }
        apps
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.all().remove(&self.id);
    }
}

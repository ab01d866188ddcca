//! Secrets in memory: what edges are sent.

use std::collections::BTreeMap;

use longshore_model::{AppName, SecretKey, SecretText};

use crate::store::SecretChanges;

/// All secrets of the cluster, and a number that changes with them. Its `Debug` shows none.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// 0: there never was one.
    pub version: u64,
    /// Secrets by app and name.
    pub all: BTreeMap<SecretKey, SecretText>,
}

impl Secrets {
    /// What the store holds.
    #[must_use]
    pub fn loaded(all: BTreeMap<SecretKey, SecretText>) -> Self {
        let version = u64::from(!all.is_empty());
        Self { version, all }
    }

    /// Those of one app.
    pub fn of(&self, app: &AppName) -> impl Iterator<Item = (&SecretKey, &SecretText)> {
        self.all.iter().filter(move |(key, _)| key.app == *app)
    }

    /// With these changes.
    #[must_use]
    pub fn with(&self, changes: &SecretChanges) -> Self {
        let mut next = self.clone();
        next.version += 1;
        for (key, text) in changes {
            match text {
                Some(text) => next.all.insert(key.clone(), text.clone()),
                None => next.all.remove(key),
            };
        }
        next
    }
}

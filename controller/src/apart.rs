//! What stands apart from apps, in memory: secrets that several may have, and credentials for
//! registries.

use std::collections::BTreeMap;

use longshore_model::spec::{ContentDigest, FileContents};
use longshore_model::{RegistryHost, SecretText, TimeMs};

/// A secret. Its `Debug` shows no contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApartSecret {
    /// What is in it.
    pub contents: FileContents,
    /// Of them.
    pub digest: ContentDigest,
    /// Since when it has these.
    pub since_ms: TimeMs,
    /// Who brought them.
    pub by: String,
}

/// Credentials for a registry. Their `Debug` shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As whom.
    pub user: String,
    /// Or a token.
    pub password: SecretText,
    /// Since when they are kept.
    pub since_ms: TimeMs,
    /// Who gave them.
    pub by: String,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// By name.
    pub secrets: BTreeMap<String, ApartSecret>,
    /// By registry.
    pub logins: BTreeMap<RegistryHost, Login>,
}

/// What is written, and what is removed.
#[derive(Debug, Clone, Default)]
pub struct ApartChanges {
    /// By name.
    pub secrets: BTreeMap<String, Option<ApartSecret>>,
    /// By registry.
    pub logins: BTreeMap<RegistryHost, Option<Login>>,
}

fn change<K: Clone + Ord, V: Clone>(all: &mut BTreeMap<K, V>, changes: &BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => all.insert(key.clone(), value.clone()),
            None => all.remove(key),
        };
    }
}

impl Apart {
    /// With these changes.
    #[must_use]
    pub fn with(&self, changes: &ApartChanges) -> Self {
        let mut next = self.clone();
        change(&mut next.secrets, &changes.secrets);
        change(&mut next.logins, &changes.logins);
        next
    }

    /// How many bytes its secrets have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let secrets = self.secrets.values();
        secrets.map(|secret| secret.contents.bytes()).sum()
    }
}

//! Secrets in memory: what edges are sent.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use longshore_identity::site::SiteCertificate;
use longshore_model::{AppName, SecretKey, SecretText, TimeMs};

use crate::store::SecretChanges;

/// Host names of a certificate that are kept to be shown.
const NAMES_MAX: usize = 8;

/// What may be shown of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Host names that it is for; of many the first ones.
    pub names: Vec<String>,
    /// Last moment that it can be used in.
    pub until_ms: TimeMs,
}

impl Shown {
    /// None where it is none, which is refused before it is stored.
    #[must_use]
    pub fn of(text: &SecretText) -> Option<Self> {
        let site = SiteCertificate::read(text.expose().as_bytes()).ok()?;
        let (_, until) = site.times();
        let until = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut names = site.names;
        names.truncate(NAMES_MAX);
        Some(Self {
            names,
            until_ms: u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// All secrets of the cluster, and a number that changes with them. Its `Debug` shows none.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// 0: there never was one.
    pub version: u64,
    /// Secrets by app and name.
    pub all: BTreeMap<SecretKey, SecretText>,
    /// What may be shown of them.
    pub shown: BTreeMap<SecretKey, Shown>,
}

impl Secrets {
    /// What the store holds.
    #[must_use]
    pub fn loaded(all: BTreeMap<SecretKey, SecretText>) -> Self {
        let version = u64::from(!all.is_empty());
        let shown = all.iter();
        let shown = shown.filter_map(|(key, text)| Some((key.clone(), Shown::of(text)?)));
        let shown = shown.collect();
        Self {
            version,
            all,
            shown,
        }
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
            match text.as_ref().and_then(Shown::of) {
                Some(shown) => next.shown.insert(key.clone(), shown),
                None => next.shown.remove(key),
            };
        }
        next
    }
}

//! Secrets in memory: what edges are sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use longshore_identity::site::SiteCertificate;
use longshore_model::certificate::CertificateWanted;
use longshore_model::{AppName, SecretKey, SecretText};

use crate::store::SecretChanges;

/// Host names of a certificate that are kept to be shown.
const NAMES_MAX: usize = 8;

/// What may be shown of a certificate; none where it is none, which is refused before it is stored.
#[must_use]
pub fn shown(text: &SecretText, by: &str) -> Option<CertificateWanted> {
    let site = SiteCertificate::read(text.expose().as_bytes()).ok()?;
    let (_, until) = site.times();
    let until = until.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut names = site.names;
    names.truncate(NAMES_MAX);
    Some(CertificateWanted {
        mark: site.mark,
        names,
        until_ms: u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
        by: by.to_owned(),
    })
}

/// All secrets of the cluster, and a number that changes with them. Its `Debug` shows none.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// 0: there never was one.
    pub version: u64,
    /// Secrets by app and name.
    pub all: BTreeMap<SecretKey, SecretText>,
    /// What may be shown of them.
    pub shown: Arc<BTreeMap<SecretKey, CertificateWanted>>,
}

impl Secrets {
    /// What the store holds.
    #[must_use]
    pub fn loaded(all: BTreeMap<SecretKey, SecretText>) -> Self {
        let version = u64::from(!all.is_empty());
        let shown = all.iter();
        let shown = shown.filter_map(|(key, text)| Some((key.clone(), self::shown(text, "")?)));
        let shown = Arc::new(shown.collect());
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
    pub fn with(&self, changes: &SecretChanges, by: &str) -> Self {
        let mut next = self.clone();
        next.version += 1;
        let of = Arc::make_mut(&mut next.shown);
        for (key, text) in changes {
            match text {
                Some(text) => next.all.insert(key.clone(), text.clone()),
                None => next.all.remove(key),
            };
            match text.as_ref().and_then(|text| shown(text, by)) {
                Some(shown) => of.insert(key.clone(), shown),
                None => of.remove(key),
            };
        }
        next
    }
}

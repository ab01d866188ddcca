//! Contents of secrets and configs in memory: what nodes that run them are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::spec::{ContentDigest, FileContents};
use longshore_model::{AppName, Assignment};

use crate::store::ContentChanges;

/// Which contents, of whose.
pub type ContentKey = (AppName, ContentDigest);

/// Contents of all apps. Its `Debug` shows none.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// By app and digest.
    pub all: BTreeMap<ContentKey, FileContents>,
}

impl Contents {
    /// Those of one app.
    pub fn of(&self, app: &AppName) -> impl Iterator<Item = (&ContentDigest, &FileContents)> {
        let of_app = self.all.iter().filter(move |((of, _), _)| of == app);
        of_app.map(|((_, digest), contents)| (digest, contents))
    }

    /// How many bytes they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.all.values().map(FileContents::bytes).sum()
    }

    /// With these changes.
    #[must_use]
    pub fn with(&self, changes: &ContentChanges) -> Self {
        let mut next = self.clone();
        for (key, contents) in changes {
            match contents {
                Some(contents) => next.all.insert(key.clone(), contents.clone()),
                None => next.all.remove(key),
            };
        }
        next
    }
}

/// What an agent holds: as it does itself, all that was sent in this session and that the last
/// assignment names.
#[derive(Debug, Default)]
pub struct Held(BTreeSet<ContentDigest>);

impl Held {
    /// What has to be sent before `assignment`. Those who only stop need nothing more.
    pub fn before(
        &mut self,
        assignment: &Assignment,
        contents: &Arc<Contents>,
    ) -> Vec<(ContentDigest, FileContents)> {
        let mut missing = BTreeMap::new();
        for replica in assignment.replicas.iter().filter(|replica| !replica.stop) {
            let spec = assignment.templates.get(&replica.template);
            for file in spec.iter().flat_map(|spec| &spec.files) {
                let key = (replica.service.app.clone(), file.digest.clone());
                if !self.0.contains(&file.digest)
                    && let Some(contents) = contents.all.get(&key)
                {
                    missing.insert(file.digest.clone(), contents.clone());
                }
            }
        }
        self.0.extend(missing.keys().cloned());
        let files = assignment.templates.values().flat_map(|spec| &spec.files);
        let named: BTreeSet<&ContentDigest> = files.map(|file| &file.digest).collect();
        self.0.retain(|digest| named.contains(digest));
        missing.into_iter().collect()
    }
}

//! Secrets of apps: rows by `app/name`. They are read at the start and kept in memory; no other
//! row and no event holds anything of them.

use std::collections::BTreeMap;

use longshore_model::{App, Event, SecretKey, SecretText};
use serde::{Deserialize, Serialize};

use super::repository::{Repository, bad_key, put, read_all, remove};
use super::revisions::{self, Origin};
use super::{Change, ContentChanges, Store, StoreError, StoredEvent, Table, contents};

/// What is stored of one. Not `Debug`.
#[derive(Serialize, Deserialize)]
struct Row {
    pem: String,
}

/// Secrets that are written, and those that are removed.
pub type SecretChanges = BTreeMap<SecretKey, Option<SecretText>>;

fn changes(secrets: &SecretChanges) -> Result<Vec<Change>, StoreError> {
    let change = |(key, text): (&SecretKey, &Option<SecretText>)| {
        let key = key.to_string();
        match text {
            None => Ok(remove(Table::Secrets, key.as_bytes())),
            Some(text) => {
                let pem = text.expose().to_owned();
                put(Table::Secrets, key.as_bytes(), &Row { pem })
            }
        }
    };
    secrets.iter().map(change).collect()
}

/// All of them.
pub(super) fn load(store: &dyn Store) -> Result<BTreeMap<SecretKey, SecretText>, StoreError> {
    let mut secrets = BTreeMap::new();
    read_all(store, Table::Secrets, |key, row: Row| {
        let bad = || bad_key(Table::Secrets, key.as_bytes());
        let (app, name) = key.split_once('/').ok_or_else(bad)?;
        let app = app.parse().map_err(|_| bad())?;
        let name = name.parse().map_err(|_| bad())?;
        secrets.insert(SecretKey::new(app, name), SecretText::new(row.pem));
        Ok(())
    })?;
    Ok(secrets)
}

impl Repository {
    /// Writes an app that a file brought, where it changed, with its certificates and contents
    /// of files that did, in one batch.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn apply_app(
        &mut self,
        app: Option<&App>,
        secrets: &SecretChanges,
        files: &ContentChanges,
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            batch.changes.extend(changes(secrets)?);
            batch.changes.extend(contents::changes(files)?);
            if let Some(app) = app {
                batch
                    .changes
                    .extend(revisions::added(app, Origin::Applied)?);
                let key = app.name.as_str().as_bytes();
                batch.changes.push(put(Table::Apps, key, app)?);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::store::{Meta, RedbStore, Store};

    fn key(text: &str) -> SecretKey {
        let (app, name) = text.split_once('/').unwrap();
        SecretKey::new(app.parse().unwrap(), name.parse().unwrap())
    }

    #[test]
    fn secrets_last_and_leave_with_their_app() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let meta = Meta::new("test".into(), "0.0.0.0:1".into(), Vec::new());
        Repository::create(&*store, &meta).unwrap();
        let text = |text: &str| Some(SecretText::new(text));
        let (mut repository, loaded) = Repository::open(Arc::clone(&store)).unwrap();
        assert!(loaded.secrets.is_empty());
        let first = [
            (key("shop/a"), text("hunter1")),
            (key("shop/b"), text("hunter2")),
            (key("shop-b/a"), text("hunter3")),
        ];
        let none = ContentChanges::new();
        repository
            .apply_app(None, &first.into(), &none, &[])
            .unwrap();
        let second = [(key("shop/a"), text("hunter4")), (key("shop/b"), None)];
        repository
            .apply_app(None, &second.into(), &none, &[])
            .unwrap();
        let (mut repository, loaded) = Repository::open(Arc::clone(&store)).unwrap();
        let kept = [
            (key("shop/a"), SecretText::new("hunter4")),
            (key("shop-b/a"), SecretText::new("hunter3")),
        ];
        assert_eq!(loaded.secrets, kept.into());
        assert!(!format!("{loaded:?}").contains("hunter"));
        let shop = "shop".parse().unwrap();
        repository.remove_app(&shop, &[], &[]).unwrap();
        let (_, loaded) = Repository::open(store).unwrap();
        let left: Vec<_> = loaded.secrets.into_keys().collect();
        assert_eq!(left, [key("shop-b/a")]);
    }
}

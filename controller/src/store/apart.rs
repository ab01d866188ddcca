//! Secrets that stand apart from apps, by name, and credentials for registries, by host. They are
//! read at the start and kept in memory; no other row and no event holds anything of them but names.

use data_encoding::BASE64;
use longshore_model::spec::file::is_name;
use longshore_model::spec::{ContentDigest, FileContents};
use longshore_model::{Event, RegistryHost, SecretText, TimeMs};
use serde::{Deserialize, Serialize};

use super::repository::{Repository, bad_key, put, read_all, remove};
use super::{Store, StoreError, StoredEvent, Table};
use crate::apart::{Apart, ApartChanges, ApartSecret, Login};

/// What is stored of a secret. Not `Debug`.
#[derive(Serialize, Deserialize)]
struct SecretRow {
    base64: String,
    since_ms: TimeMs,
    by: String,
}

/// What is stored of credentials. Not `Debug`.
#[derive(Serialize, Deserialize)]
struct LoginRow {
    user: String,
    password: String,
    since_ms: TimeMs,
    by: String,
}

impl Repository {
    /// Writes what stands apart from apps.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_apart(
        &mut self,
        changes: &ApartChanges,
        events: &[Event],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.write_with(events, |batch| {
            for (name, secret) in &changes.secrets {
                let key = name.as_bytes();
                batch.changes.push(match secret {
                    None => remove(Table::ApartSecrets, key),
                    Some(secret) => {
                        let row = SecretRow {
                            base64: BASE64.encode(secret.contents.expose()),
                            since_ms: secret.since_ms,
                            by: secret.by.clone(),
                        };
                        put(Table::ApartSecrets, key, &row)?
                    }
                });
            }
            for (host, login) in &changes.logins {
                let key = host.as_str().as_bytes();
                batch.changes.push(match login {
                    None => remove(Table::Registries, key),
                    Some(login) => {
                        let row = LoginRow {
                            user: login.user.clone(),
                            password: login.password.expose().to_owned(),
                            since_ms: login.since_ms,
                            by: login.by.clone(),
                        };
                        put(Table::Registries, key, &row)?
                    }
                });
            }
            Ok(())
        })
    }
}

/// All of it.
pub(super) fn load(store: &dyn Store) -> Result<Apart, StoreError> {
    let mut apart = Apart::default();
    read_all(store, Table::ApartSecrets, |key, row: SecretRow| {
        let bad = || bad_key(Table::ApartSecrets, key.as_bytes());
        let contents = BASE64.decode(row.base64.as_bytes()).map_err(|_| bad())?;
        if !is_name(key) {
            return Err(bad());
        }
        let secret = ApartSecret {
            digest: ContentDigest::of(&contents),
            contents: FileContents::new(contents),
            since_ms: row.since_ms,
            by: row.by,
        };
        apart.secrets.insert(key.to_owned(), secret);
        Ok(())
    })?;
    read_all(store, Table::Registries, |key, row: LoginRow| {
        let bad = || bad_key(Table::Registries, key.as_bytes());
        let host: RegistryHost = key.parse().map_err(|_| bad())?;
        let login = Login {
            user: row.user,
            password: SecretText::new(row.password),
            since_ms: row.since_ms,
            by: row.by,
        };
        apart.logins.insert(host, login);
        Ok(())
    })?;
    Ok(apart)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{MemStore, Meta};

    #[test]
    fn what_stands_apart_lasts_until_it_is_removed() {
        let store: Arc<dyn Store> = Arc::new(MemStore::default());
        let meta = Meta::new("test".into(), "0.0.0.0:1".into(), Vec::new());
        Repository::create(&*store, &meta).unwrap();
        let (mut repository, loaded) = Repository::open(Arc::clone(&store)).unwrap();
        assert_eq!(loaded.apart, Apart::default());
        let secret = |contents: &[u8]| ApartSecret {
            contents: FileContents::new(contents),
            digest: ContentDigest::of(contents),
            since_ms: 7,
            by: "ana".into(),
        };
        let login = Login {
            user: "ana".into(),
            password: SecretText::new("hunter3"),
            since_ms: 8,
            by: "bob".into(),
        };
        let host: RegistryHost = "r.example.com:5000".parse().unwrap();
        let first = ApartChanges {
            secrets: [
                ("a".into(), Some(secret(b"hunter1"))),
                ("b".into(), Some(secret(&[0, 255]))),
            ]
            .into(),
            logins: [(host.clone(), Some(login.clone()))].into(),
        };
        repository.put_apart(&first, &[]).unwrap();
        let (mut repository, loaded) = Repository::open(Arc::clone(&store)).unwrap();
        assert_eq!(loaded.apart, Apart::default().with(&first));
        assert_eq!(loaded.apart.logins[&host], login);
        assert_eq!(loaded.apart.bytes(), 9);
        assert!(!format!("{loaded:?} {first:?}").contains("hunter"));
        let second = ApartChanges {
            secrets: [("a".into(), None)].into(),
            logins: [(host, None)].into(),
        };
        repository.put_apart(&second, &[]).unwrap();
        let (_, loaded) = Repository::open(store).unwrap();
        assert_eq!(loaded.apart, Apart::default().with(&first).with(&second));
        assert_eq!(loaded.apart.secrets.len(), 1);
    }
}

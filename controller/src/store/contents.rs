//! Contents of secrets and configs: rows by `app/sha256`. They are read at the start and kept in
//! memory; no other row and no event holds anything of them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use longshore_model::spec::{ContentDigest, FileContents};
use serde::{Deserialize, Serialize};

use super::repository::{bad_key, put, read_all, remove};
use super::{Change, Store, StoreError, Table};
use crate::contents::ContentKey;

/// What is stored of one. Not `Debug`.
#[derive(Serialize, Deserialize)]
struct Row {
    base64: String,
}

/// Contents that are written, and those that are removed.
pub type ContentChanges = BTreeMap<ContentKey, Option<FileContents>>;

pub(super) fn changes(contents: &ContentChanges) -> Result<Vec<Change>, StoreError> {
    let change = |((app, digest), contents): (&ContentKey, &Option<FileContents>)| {
        let key = format!("{app}/{digest}");
        match contents {
            None => Ok(remove(Table::Contents, key.as_bytes())),
            Some(contents) => {
                let base64 = BASE64.encode(contents.expose());
                put(Table::Contents, key.as_bytes(), &Row { base64 })
            }
        }
    };
    contents.iter().map(change).collect()
}

/// All of them.
pub(super) fn load(store: &dyn Store) -> Result<BTreeMap<ContentKey, FileContents>, StoreError> {
    let mut all = BTreeMap::new();
    read_all(store, Table::Contents, |key, row: Row| {
        let bad = || bad_key(Table::Contents, key.as_bytes());
        let (app, digest) = key.split_once('/').ok_or_else(bad)?;
        let app = app.parse().map_err(|_| bad())?;
        let digest: ContentDigest = digest.parse().map_err(|_| bad())?;
        let contents = BASE64.decode(row.base64.as_bytes()).map_err(|_| bad())?;
        if ContentDigest::of(&contents) != digest {
            return Err(bad());
        }
        all.insert((app, digest), FileContents::new(contents));
        Ok(())
    })?;
    Ok(all)
}

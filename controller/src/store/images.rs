//! Images and their names: rows by the manifest's digest and by name. They are read at the start
//! and kept in memory; the bytes are files.

use std::sync::Arc;

use longshore_model::ImageDigest;

use super::repository::{Repository, bad_key, put, read_all, remove, write_rows};
use super::{Store, StoreError, Table};
use crate::images::{Catalog, CatalogChanges, ImageRecord, Tag};

impl Repository {
    /// Writes images and names together.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn put_images(&mut self, changes: &CatalogChanges) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        for (digest, image) in &changes.images {
            let key = digest.as_str().as_bytes();
            rows.push(match image {
                Some(image) => put(Table::Images, key, &**image)?,
                None => remove(Table::Images, key),
            });
        }
        for (name, tag) in &changes.tags {
            let key = name.to_string();
            rows.push(match tag {
                Some(tag) => put(Table::ImageTags, key.as_bytes(), tag)?,
                None => remove(Table::ImageTags, key.as_bytes()),
            });
        }
        write_rows(self, rows)
    }
}

/// All of them.
pub(super) fn load(store: &dyn Store) -> Result<Catalog, StoreError> {
    let mut catalog = Catalog::default();
    read_all(store, Table::Images, |key, image: ImageRecord| {
        let bad = || bad_key(Table::Images, key.as_bytes());
        let digest: ImageDigest = key.parse().map_err(|_| bad())?;
        if ImageDigest::of(image.manifest.as_bytes()) != digest {
            return Err(bad());
        }
        catalog.images.insert(digest, Arc::new(image));
        Ok(())
    })?;
    read_all(store, Table::ImageTags, |key, tag: Tag| {
        let bad = || bad_key(Table::ImageTags, key.as_bytes());
        catalog.tags.insert(key.parse().map_err(|_| bad())?, tag);
        Ok(())
    })?;
    Ok(catalog)
}

//! Copies for tests.

use longshore_model::spec::ContentDigest;

use super::rows::Rows;
use super::{ABOUT, About, CA, CA_KEY, FORMAT, ROWS};
use crate::store::{MemStore, Meta, Repository};

/// A store with a cluster in it, and nothing else.
pub(crate) fn store() -> MemStore {
    let store = MemStore::default();
    let meta = Meta::new("lab".into(), "127.0.0.1:0".into(), vec!["h".into()]);
    Repository::create(&store, &meta).unwrap();
    store
}

/// What is right to say of these rows.
pub(super) fn about(rows: u64, encoded: &[u8]) -> About {
    About {
        format: FORMAT,
        cluster: "lab".into(),
        cluster_generation: 1,
        time_ms: 1,
        controller_version: "0".into(),
        rows,
        rows_sha256: ContentDigest::of(encoded).to_string(),
    }
}

/// An archive of these parts.
pub(super) fn archive(about: &About, rows: &[u8]) -> Vec<u8> {
    let about = serde_json::to_vec(about).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (ABOUT, about.as_slice()),
        (CA, b"c"),
        (CA_KEY, b"k"),
        (ROWS, rows),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A good copy.
pub(crate) fn copy() -> Vec<u8> {
    let rows = Rows::of(&store()).unwrap();
    let encoded = rows.encode();
    archive(&about(rows.len(), &encoded), &encoded)
}

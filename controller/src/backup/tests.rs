use super::testing::{about, archive, store};
use super::*;
use crate::store::{Batch, Change, MemStore, Store, Table};

#[test]
fn rows_go_there_and_back_however_many_there_are() {
    let store = MemStore::default();
    let row = |n: u32| Change {
        table: Table::Events,
        key: n.to_be_bytes().to_vec(),
        value: Some(vec![7; n as usize % 9]),
    };
    for count in [0, 999, 1_000, 1_001] {
        let changes = (0..count).map(row).collect();
        let guards = Vec::new();
        store.write(&Batch { guards, changes }).unwrap();
        let rows = Rows::of(&store).unwrap();
        assert_eq!(rows.len(), u64::from(count));
        let back = Rows::decode(&rows.encode()).unwrap().in_memory().unwrap();
        let all = |store: &MemStore| store.scan(Table::Events, &[], 5_000).unwrap();
        assert_eq!(all(&back), all(&store));
    }
}

#[test]
fn a_damaged_copy_is_no_copy() {
    let rows = Rows::of(&store()).unwrap();
    let encoded = rows.encode();
    let about = about(rows.len(), &encoded);
    assert!(Copy::read(&archive(&about, &encoded), None).is_ok());
    let says = |about: About, rows: &[u8], words: &str| {
        let error = Copy::read(&archive(&about, rows), None)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    let mut flipped = encoded.clone();
    *flipped.last_mut().unwrap() ^= 1;
    says(about.clone(), &flipped, "not those that were copied");
    // Somebody mended the digest: the record's own checksum tells.
    let mended = About {
        rows_sha256: ContentDigest::of(&flipped).to_string(),
        ..about.clone()
    };
    says(mended, &flipped, "damaged");
    let cut = &encoded[..encoded.len() - 1];
    let mended = About {
        rows_sha256: ContentDigest::of(cut).to_string(),
        ..about.clone()
    };
    says(mended, cut, "ends within a row");
    let newer = About {
        format: 9,
        ..about.clone()
    };
    says(newer, &encoded, "its format is 9");
    let other = About {
        cluster: "other".into(),
        ..about
    };
    says(other, &encoded, "another cluster");
    assert!(Copy::read(b"no archive", None).is_err());
}

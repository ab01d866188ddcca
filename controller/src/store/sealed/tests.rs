use super::super::record::encode;
use super::*;
use crate::seal::{SealError, SealKey};
use crate::store::MemStore;

fn put(table: Table, key: &str, text: &str) -> Batch {
    let value = Some(encode(table, key.as_bytes(), &text).unwrap());
    let key = key.into();
    Batch {
        guards: Vec::new(),
        changes: vec![Change { table, key, value }],
    }
}

fn open(inner: &Arc<MemStore>, key: &SealKey) -> Result<SealedStore, SealError> {
    SealedStore::open(Arc::clone(inner) as _, |_| Ok(key.clone()))
}

/// All that the store beneath holds, as one would find it on the disk.
fn disk(inner: &MemStore) -> Vec<u8> {
    let rows = |table| inner.scan(table, &[], usize::MAX).unwrap();
    let rows = Table::ALL.into_iter().flat_map(rows);
    rows.flat_map(|(key, value)| [key, value].concat())
        .collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|found| found == text.as_bytes())
}

#[test]
fn secrets_are_not_on_the_disk_and_all_else_is_as_it_was() {
    let (inner, key) = (Arc::new(MemStore::default()), SealKey::random().unwrap());
    let store = open(&inner, &key).unwrap();
    for table in Table::ALL {
        store.write(&put(table, "a", "hunter2")).unwrap();
        let is_sealed = SEALED.contains(&table);
        let stored = inner.get(table, b"a").unwrap().unwrap();
        assert_eq!(holds(&stored, "hunter2"), !is_sealed, "{table:?}");
        // Whoever has no key can still find out whether a row is whole.
        payload(table, b"a", &stored).unwrap();
        let back = store.get(table, b"a").unwrap();
        assert_eq!(back, put(table, "a", "hunter2").changes[0].value);
    }
    let again = put(Table::Secrets, "b", "hunter2");
    store.write(&again).unwrap();
    let [one, two] = [&b"a"[..], b"b"].map(|key| inner.get(Table::Secrets, key).unwrap());
    assert_ne!(one.unwrap()[5..], two.unwrap()[5..], "equal secrets show");
}

#[test]
fn rows_of_before_are_sealed_when_the_store_is_opened() {
    let (inner, key) = (Arc::new(MemStore::default()), SealKey::random().unwrap());
    let count = 2 * PAGE + 1;
    for table in SEALED {
        for n in 0..count {
            inner
                .write(&put(table, &format!("{n:03}"), "hunter2"))
                .unwrap();
        }
    }
    assert!(holds(&disk(&inner), "hunter2"));
    for _ in 0..2 {
        let store = open(&inner, &key).unwrap();
        assert!(!holds(&disk(&inner), "hunter2"));
        for table in SEALED {
            let rows = store.scan(table, &[], usize::MAX).unwrap();
            let found = rows.iter().filter(|(_, value)| holds(value, "hunter2"));
            assert_eq!(found.count(), count);
        }
    }
}

#[test]
fn another_key_opens_nothing_and_changes_nothing() {
    let (inner, key) = (Arc::new(MemStore::default()), SealKey::random().unwrap());
    open(&inner, &key)
        .unwrap()
        .write(&put(Table::Registries, "r.example.com", "hunter2"))
        .unwrap();
    let before = disk(&inner);
    let other = SealKey::random().unwrap();
    let error = open(&inner, &other).err().unwrap();
    let (with, here) = (readable_id(&key.id()), readable_id(&other.id()));
    let wanted = format!(
        "store: row r.example.com of table registries is sealed with key {with}, and the key here is \
         {here}; give the controller the key of before"
    );
    assert_eq!(error.to_string(), wanted);
    assert_eq!(disk(&inner), before);
    let error = SealedStore::open(Arc::clone(&inner) as _, |is_sealed| {
        assert!(is_sealed, "a new key must not be made");
        Err::<SealKey, SealError>(SealError::TooLong { bytes: 0 })
    });
    assert!(matches!(error.err(), Some(SealError::TooLong { .. })));
}

#[test]
fn a_seal_counts_only_in_its_place_and_as_it_was_made() {
    let (inner, key) = (Arc::new(MemStore::default()), SealKey::random().unwrap());
    let store = open(&inner, &key).unwrap();
    store
        .write(&put(Table::Secrets, "shop/a", "hunter2"))
        .unwrap();
    let stored = inner.get(Table::Secrets, b"shop/a").unwrap().unwrap();
    let sealed = payload(Table::Secrets, b"shop/a", &stored).unwrap();
    let place = |table: Table, key: &str, sealed: &[u8]| {
        let value = Some(checked(table, key.as_bytes(), sealed));
        let key = key.as_bytes().to_vec();
        let changes = vec![Change { table, key, value }];
        let guards = Vec::new();
        inner.write(&Batch { guards, changes }).unwrap();
    };
    // Somebody who can write rows, with checksums that are right, moves it to where it is shown.
    place(Table::Secrets, "mine/a", sealed);
    place(Table::Contents, "shop/a", sealed);
    for (table, key) in [(Table::Secrets, "mine/a"), (Table::Contents, "shop/a")] {
        let error = store.get(table, key.as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains("its seal does not open"),
            "{error}"
        );
    }
    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        place(Table::Secrets, "shop/a", &changed);
        let read = store.get(Table::Secrets, b"shop/a");
        // Without its mark it is what it is, and no record.
        assert!(at == 0 || read.is_err(), "byte {at} was changed unseen");
    }
    for length in 1..sealed.len() {
        place(Table::Secrets, "shop/a", &sealed[..length]);
        let read = store.get(Table::Secrets, b"shop/a");
        assert!(read.is_err(), "{length} bytes passed for a seal");
    }
}

#[test]
fn guards_of_sealed_rows_hold_what_is_in_them() {
    let (inner, key) = (Arc::new(MemStore::default()), SealKey::random().unwrap());
    let store = open(&inner, &key).unwrap();
    let [one, two] = ["1", "2"].map(|text| put(Table::Secrets, "a", text));
    let guarded = |expected: &Batch, next: &Batch| Batch {
        guards: vec![Guard {
            table: Table::Secrets,
            key: b"a".to_vec(),
            expected: expected.changes[0].value.clone(),
        }],
        changes: next.changes.clone(),
    };
    store.write(&one).unwrap();
    let refused = store.write(&guarded(&two, &two));
    assert!(matches!(refused, Err(StoreError::Conflict { .. })));
    store.write(&guarded(&one, &two)).unwrap();
    assert_eq!(
        store.get(Table::Secrets, b"a").unwrap(),
        two.changes[0].value
    );
}

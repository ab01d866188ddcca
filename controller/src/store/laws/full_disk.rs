//! What a full disk may do.

use super::*;

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disk = disk();
    let store = store_on(&disk).unwrap();
    Repository::create(&store, &Meta::new("lab".into(), "x".into(), Vec::new())).unwrap();
    let (mut repository, _) = repository(store);
    let full_at = disk.live.lock().unwrap().len() as u64;
    disk.bytes_max.store(full_at, Ordering::SeqCst);
    let mut acknowledged = BTreeMap::new();
    let refused =
        (0..50_000).find_map(
            |index| match repository.put_manual(&key(index), &manual(index)) {
                Ok(()) => {
                    acknowledged.insert(key(index), manual(index));
                    None
                }
                Err(error) => Some(error),
            },
        );
    let refused = refused.expect("the disk never filled");
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert!(
        refused
            .to_string()
            .contains("free space on /test/store.redb and retry")
    );
    assert!(!refused.is_fatal());

    disk.bytes_max.store(u64::MAX, Ordering::SeqCst);
    repository
        .put_manual(&key(99_999), &manual(7))
        .expect("space came back");
    acknowledged.insert(key(99_999), manual(7));
    drop(repository);
    let (_, loaded) = Repository::open(Arc::new(store_on(&disk).unwrap())).unwrap();
    assert_eq!(loaded.desired.manual, acknowledged);
}

#[test]
fn without_room_a_write_is_refused_before_the_engine_sees_it_and_reads_go_on() {
    let disk = disk();
    let (live, room) = (Arc::clone(&disk), Arc::new(AtomicU64::new(u64::MAX)));
    let open = move || Database::builder().create_with_backend(DiskBackend(Arc::clone(&live)));
    let left = Arc::clone(&room);
    let store = RedbStore::with_opener(
        Box::new(open),
        Box::new(move || Ok(left.load(Ordering::SeqCst))),
        "/test/store.redb".into(),
    )
    .unwrap();
    let row = |value: &str| batch(&[], &[change("a", Some(value))]);
    store.write(&row("1")).unwrap();
    room.store(4_096, Ordering::SeqCst);
    // Any touch of the engine would now fail and close it.
    disk.sync_fails.store(true, Ordering::SeqCst);
    let refused = store.write(&row("2")).unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert_eq!(store.get(Table::Apps, b"a").unwrap(), Some(b"1".to_vec()));
    disk.sync_fails.store(false, Ordering::SeqCst);
    room.store(u64::MAX, Ordering::SeqCst);
    store.write(&row("3")).expect("room came back");
    assert_eq!(store.get(Table::Apps, b"a").unwrap(), Some(b"3".to_vec()));
}

#[test]
fn a_full_disk_can_be_cleaned_up_with_the_room_that_was_set_aside() {
    const BALLAST: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ballast");
    let (disk, free) = (disk(), Arc::new(AtomicU64::new(u64::MAX >> 1)));
    let open = move || Database::builder().create_with_backend(DiskBackend(Arc::clone(&disk)));
    let (left, file) = (Arc::clone(&free), path.clone());
    // What others leave, and the ballast if it is not there.
    let room = move || {
        let given_back = if file.exists() { 0 } else { BALLAST };
        Ok(left.load(Ordering::SeqCst) + given_back)
    };
    let store = RedbStore::with_opener(Box::new(open), Box::new(room), "/test/store.redb".into());
    let store = store
        .unwrap()
        .with_ballast(Ballast::new(path.clone(), BALLAST));
    let text = "x".repeat(5_000);
    let refused = |written: Result<(), StoreError>| {
        let error = written.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
    };
    let put = |key: &str| store.write(&batch(&[], &[change(key, Some(&text))]));
    put("a").unwrap();
    put("b").unwrap();
    assert_eq!(store.strain(), None);
    free.store(4_096, Ordering::SeqCst);
    // What makes it larger is refused, and the room stays for what does not.
    refused(put("c"));
    assert!(path.exists());
    let remove = [change("a", None), change("said", Some("a is gone"))];
    store.write(&batch(&[], &remove)).unwrap();
    assert!(!path.exists());
    assert!(store.strain().unwrap().contains("has 8 MiB left"));
    // The room that came back is not for this.
    refused(put("c"));
    store
        .write(&batch(&[], &[change("b", Some("short"))]))
        .unwrap();
    // Others take that, too.
    free.store(0, Ordering::SeqCst);
    std::fs::write(&path, "theirs").unwrap();
    refused(store.write(&batch(&[], &[change("b", None)])));
    std::fs::remove_file(&path).unwrap();
    // As much again beside it is enough to set it aside anew.
    free.store(BALLAST - 1, Ordering::SeqCst);
    store.write(&batch(&[], &[change("b", None)])).unwrap();
    assert!(!path.exists());
    free.store(BALLAST, Ordering::SeqCst);
    put("c").unwrap();
    assert!(path.exists());
    assert_eq!(store.strain(), None);
}

//! The laws of a store, held by every implementation, and what a crash or a full disk may do.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ::redb::{Database, StorageBackend};
use longshore_model::plan::Home;
use longshore_model::{Event, EventKind, ManualScale, Plan, ServiceKey};
use proptest::prelude::*;

mod full_disk;
mod power;

use super::etcd::rig::Rig;
use super::*;
use crate::operators::OperatorRecord;
use crate::seal::SealKey;

fn change(key: &str, value: Option<&str>) -> Change {
    Change {
        table: Table::Apps,
        key: key.into(),
        value: value.map(Into::into),
    }
}

fn guard(key: &str, expected: Option<&str>) -> Guard {
    Guard {
        table: Table::Apps,
        key: key.into(),
        expected: expected.map(Into::into),
    }
}

fn batch(guards: &[Guard], changes: &[Change]) -> Batch {
    Batch {
        guards: guards.to_vec(),
        changes: changes.to_vec(),
    }
}

fn each_store(law: impl Fn(&dyn Store)) {
    law(&MemStore::default());
    let dir = tempfile::tempdir().unwrap();
    law(&RedbStore::open(&dir.path().join("store.redb")).unwrap());
    law(&Rig::start().store("/longshore/lab"));
    let sealed = SealedStore::open(Arc::new(MemStore::default()), |_| SealKey::random());
    law(&sealed.unwrap());
}

#[test]
fn a_write_is_read_back_in_key_order() {
    each_store(|store| {
        assert_eq!(store.get(Table::Apps, b"a").unwrap(), None);
        let changes = [
            change("b", Some("2")),
            change("a", Some("1")),
            change("c", Some("3")),
        ];
        store.write(&batch(&[], &changes)).unwrap();
        assert_eq!(store.get(Table::Apps, b"a").unwrap(), Some(b"1".to_vec()));
        let keys = |from: &str, limit| -> Vec<String> {
            let rows = store.scan(Table::Apps, from.as_bytes(), limit).unwrap();
            rows.into_iter()
                .map(|(key, _)| String::from_utf8(key).unwrap())
                .collect()
        };
        assert_eq!(keys("", 10), ["a", "b", "c"]);
        assert_eq!(keys("b", 1), ["b"]);
        assert!(
            store.scan(Table::Nodes, b"", 10).unwrap().is_empty(),
            "tables are apart"
        );
    });
}

#[test]
fn a_failed_guard_changes_nothing() {
    each_store(|store| {
        store
            .write(&batch(&[guard("a", None)], &[change("a", Some("1"))]))
            .unwrap();
        let twice = batch(
            &[guard("a", None)],
            &[change("b", Some("x")), change("a", None)],
        );
        let error = store.write(&twice).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert!(!error.is_fatal());
        assert_eq!(store.get(Table::Apps, b"b").unwrap(), None);
        store
            .write(&batch(&[guard("a", Some("1"))], &[change("a", None)]))
            .unwrap();
        assert_eq!(store.get(Table::Apps, b"a").unwrap(), None);
    });
}

#[test]
fn of_two_changes_of_a_row_the_last_one_counts() {
    each_store(|store| {
        let changes = [
            change("a", Some("1")),
            change("b", Some("1")),
            change("a", None),
            change("a", Some("2")),
            change("b", None),
        ];
        store.write(&batch(&[], &changes)).unwrap();
        let rows = store.scan(Table::Apps, b"", 10).unwrap();
        assert_eq!(rows, [(b"a".to_vec(), b"2".to_vec())]);
    });
}

#[test]
fn a_batch_of_any_size_is_written_whole_or_not_at_all() {
    let row = |n: usize, bytes: usize| Change {
        table: Table::Contents,
        key: format!("{n:05}").into_bytes(),
        value: Some(vec![u8::try_from(n % 251).unwrap(); bytes]),
    };
    each_store(|store| {
        let read = || store.scan(Table::Contents, b"", usize::MAX).unwrap();
        for (count, bytes) in [(127, 1), (128, 1), (129, 1), (3_000, 10), (20, 1 << 20)] {
            let gone = read().into_iter().map(|(key, _)| Change {
                table: Table::Contents,
                key,
                value: None,
            });
            store.write(&batch(&[], &gone.collect::<Vec<_>>())).unwrap();
            let rows: Vec<Change> = (0..count).map(|n| row(n, bytes)).collect();
            let guarded = batch(&[guard("absent", Some("x"))], &rows);
            let error = store.write(&guarded).unwrap_err();
            assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
            assert!(read().is_empty());
            store
                .write(&batch(&[guard("absent", None)], &rows))
                .unwrap();
            let found = read();
            assert_eq!(found.len(), count);
            for ((key, value), row) in found.into_iter().zip(rows) {
                assert!((key, Some(value)) == (row.key, row.value));
            }
        }
    });
}

#[test]
fn the_stores_agree_on_any_history() {
    let (rig, dir) = (Rig::start(), tempfile::tempdir().unwrap());
    let case = AtomicU64::new(0);
    let history = prop::collection::vec(
        (
            prop::option::of("[a-c]"),
            prop::collection::vec(("[a-c]", prop::option::of("[x-z]")), 0..4),
        ),
        0..12,
    );
    proptest!(ProptestConfig::with_cases(24), |(history in history)| {
        let case = case.fetch_add(1, Ordering::SeqCst);
        let mem = MemStore::default();
        let redb = RedbStore::open(&dir.path().join(format!("{case}.redb"))).unwrap();
        let etcd = rig.store(&format!("/longshore/{case}"));
        for (absent, changes) in history {
            let guards: Vec<Guard> = absent.iter().map(|key| guard(key, None)).collect();
            let changes: Vec<Change> =
                changes.iter().map(|(key, value)| change(key, value.as_deref())).collect();
            let batch = batch(&guards, &changes);
            let written = mem.write(&batch).is_ok();
            let rows = mem.scan(Table::Apps, b"", 100).unwrap();
            for other in [&redb as &dyn Store, &etcd] {
                prop_assert_eq!(other.write(&batch).is_ok(), written);
                prop_assert_eq!(&other.scan(Table::Apps, b"", 100).unwrap(), &rows);
            }
        }
    });
}

/// A disk that can be full, and that loses what was not synced when the power goes.
#[derive(Debug, Default)]
struct Disk {
    live: Mutex<Vec<u8>>,
    synced: Mutex<Vec<u8>>,
    bytes_max: AtomicU64,
    sync_fails: AtomicBool,
}

#[derive(Debug)]
struct DiskBackend(Arc<Disk>);

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.live.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let live = self.0.live.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let bytes = live
            .get(from..from + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut live = self.0.live.lock().unwrap();
        if len > self.0.bytes_max.load(Ordering::SeqCst) && len > live.len() as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        live.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.0.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        let live = self.0.live.lock().unwrap().clone();
        *self.0.synced.lock().unwrap() = live;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut live = self.0.live.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let bytes = live
            .get_mut(from..from + data.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(data);
        Ok(())
    }
}

fn store_on(disk: &Arc<Disk>) -> Result<RedbStore, StoreError> {
    let disk = Arc::clone(disk);
    let open = move || Database::builder().create_with_backend(DiskBackend(Arc::clone(&disk)));
    let room = || Ok(u64::MAX);
    RedbStore::with_opener(Box::new(open), Box::new(room), "/test/store.redb".into())
}

fn disk() -> Arc<Disk> {
    let disk = Disk::default();
    disk.bytes_max.store(u64::MAX, Ordering::SeqCst);
    Arc::new(disk)
}

fn repository(store: RedbStore) -> (Repository, Loaded) {
    Repository::open(Arc::new(store)).unwrap()
}

fn started(sequence: u64) -> Event {
    Event {
        at_ms: sequence,
        kind: EventKind::ControllerStarted { term: sequence },
    }
}

fn manual(count: u32) -> ManualScale {
    ManualScale {
        count,
        at_ms: 1,
        hold_until_ms: None,
        by: "ana".repeat(400),
    }
}

fn key(index: u32) -> ServiceKey {
    format!("app/service-{index}").parse().unwrap()
}

#[test]
fn a_failed_sync_is_fatal_and_what_was_acknowledged_survives() {
    let disk = disk();
    let store = store_on(&disk).unwrap();
    Repository::create(&store, &Meta::new("lab".into(), "x".into(), Vec::new())).unwrap();
    let (mut repository, _) = repository(store);
    repository.put_manual(&key(1), &manual(1)).unwrap();
    disk.sync_fails.store(true, Ordering::SeqCst);
    let error = repository.put_manual(&key(2), &manual(2)).unwrap_err();
    assert!(error.is_fatal(), "{error}");
    // Power cut: what was not synced is gone.
    drop(repository);
    disk.sync_fails.store(false, Ordering::SeqCst);
    let synced = disk.synced.lock().unwrap().clone();
    *disk.live.lock().unwrap() = synced;
    let (_, loaded) = Repository::open(Arc::new(store_on(&disk).unwrap())).unwrap();
    assert_eq!(loaded.desired.manual.get(&key(1)), Some(&manual(1)));
}

#[test]
fn every_power_cut_keeps_each_acknowledged_write() {
    let disk = disk();
    let store = store_on(&disk).unwrap();
    Repository::create(&store, &Meta::new("lab".into(), "x".into(), Vec::new())).unwrap();
    let mut images = Vec::new();
    let (mut repository, _) = repository(store);
    for index in 0..40 {
        repository.put_manual(&key(index), &manual(index)).unwrap();
        images.push((index, disk.synced.lock().unwrap().clone()));
    }
    for (index, image) in images {
        let after = Arc::new(Disk::default());
        after.bytes_max.store(u64::MAX, Ordering::SeqCst);
        *after.live.lock().unwrap() = image;
        let (_, loaded) = Repository::open(Arc::new(store_on(&after).unwrap())).unwrap();
        assert_eq!(loaded.desired.manual.len() as u32, index + 1);
    }
}

#[test]
fn damage_is_found_at_the_start() {
    let disk = disk();
    let store = store_on(&disk).unwrap();
    Repository::create(&store, &Meta::new("lab".into(), "x".into(), Vec::new())).unwrap();
    let (mut repository, _) = repository(store);
    for index in 0..20 {
        repository.put_manual(&key(index), &manual(index)).unwrap();
    }
    drop(repository);
    let good = disk.live.lock().unwrap().clone();
    let open = |bytes: Vec<u8>| {
        let disk = Arc::new(Disk::default());
        disk.bytes_max.store(u64::MAX, Ordering::SeqCst);
        *disk.live.lock().unwrap() = bytes;
        store_on(&disk).and_then(|store| Repository::open(Arc::new(store)))
    };
    let expected = open(good.clone()).unwrap().1.desired;
    // As many as were measured without a check (600 times 16 bytes: 228 silently wrong).
    let step = good.len() / 600;
    for at in (0..good.len()).step_by(step.max(1)) {
        let mut bad = good.clone();
        bad[at..(at + 16).min(good.len())]
            .iter_mut()
            .for_each(|byte| *byte ^= 0x5a);
        if let Ok((_, loaded)) = open(bad) {
            assert_eq!(
                loaded.desired, expected,
                "wrong data after damage at byte {at}"
            );
        }
    }
}

#[test]
fn terms_rise_and_a_second_writer_is_found_out() {
    let store: Arc<dyn Store> = Arc::new(MemStore::default());
    assert!(matches!(
        Repository::open(Arc::clone(&store)).map(|(_, loaded)| loaded.term),
        Err(StoreError::Empty { .. })
    ));
    Repository::create(&*store, &Meta::new("lab".into(), "x".into(), Vec::new())).unwrap();
    let (mut first, loaded) = Repository::open(Arc::clone(&store)).unwrap();
    assert_eq!(loaded.term, 1);
    first.put_manual(&key(1), &manual(1)).unwrap();
    let (mut second, loaded) = Repository::open(Arc::clone(&store)).unwrap();
    assert_eq!(loaded.term, 2);
    let error = first.put_manual(&key(1), &manual(5)).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    second.put_manual(&key(2), &manual(2)).unwrap();
}

#[test]
fn plans_are_committed_by_compare_and_set_and_row_by_row() {
    each_repository(|store| {
        let (mut repository, loaded) = Repository::open(Arc::clone(&store)).unwrap();
        let current = loaded.plan;
        let none = HistoryBatch::default();
        let mut next = Plan {
            version: 1,
            next_replica: 9,
            ..Plan::default()
        };
        let home = Home {
            node: "node1".parse().unwrap(),
            since_ms: 5,
            external: false,
        };
        next.homes = Arc::new([("shop_data".into(), home)].into());
        next.services.insert(key(1), Arc::default());
        next.services.insert(key(2), Arc::default());
        repository
            .commit_plan(&current, &next, &[started(1)], &none)
            .unwrap();
        let mut third = Plan {
            version: 2,
            parent: 1,
            ..next.clone()
        };
        third.services.remove(&key(1));
        repository.commit_plan(&next, &third, &[], &none).unwrap();
        let error = repository
            .commit_plan(&next, &third, &[], &none)
            .unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        drop(repository);
        assert_eq!(Repository::open(store).unwrap().1.plan, third);
    });
}

/// A store as the first schema left it: templates in a table of their own, generations in the
/// plan's row.
#[test]
fn an_older_schema_is_brought_up_to_date_once() {
    each_repository(|store| {
        let template = "0123456789abcdef";
        let row = |table: Table, key: &str, json: serde_json::Value| Change {
            table,
            key: key.into(),
            value: Some(record::encode(table, key.as_bytes(), &json).unwrap()),
        };
        let replica = serde_json::json!({
            "id": "r7", "service": "app/web", "slot": 1, "node": "node1", "address": "10.0.0.1",
            "template": template, "revision": 1, "created_ms": 5, "traffic": "serve",
            "ports": [{"container_port": 80, "host_port": 20000}],
        });
        let head = serde_json::json!({
            "version": 3, "parent": 2, "next_replica": 8, "services": {}, "replicas": {},
            "templates": {}, "generations": {"node1": 4}, "routes_generation": 2, "lost": {},
        });
        let meta = Meta {
            schema: 1,
            ..Meta::new("lab".into(), "x".into(), Vec::new())
        };
        let changes = [
            row(Table::Meta, "meta", serde_json::to_value(&meta).unwrap()),
            row(Table::Plan, "plan", head),
            row(
                Table::PlanServices,
                "app/web",
                serde_json::json!({"target": 1}),
            ),
            row(Table::PlanReplicas, "r7", replica),
            row(
                Table::PlanTemplates,
                template,
                serde_json::json!({"image": "web:1", "stop_grace_ms": 0}),
            ),
        ];
        store.write(&batch(&[], &changes)).unwrap();
        let (_, first) = Repository::open(Arc::clone(&store)).unwrap();
        assert_eq!(first.meta.schema, rows::SCHEMA);
        let operators: Vec<_> = first.operators.0.values().collect();
        assert_eq!(operators, [&OperatorRecord::of_before()]);
        let service = &first.plan.services[&"app/web".parse().unwrap()];
        let replica = &service.replicas[&longshore_model::ReplicaId(7)];
        assert_eq!(first.plan.template(replica).unwrap().image, "web:1");
        assert_eq!(first.plan.generations.values().copied().sum::<u64>(), 4);
        assert!(store.scan(Table::PlanTemplates, b"", 9).unwrap().is_empty());
        let (mut repository, again) = Repository::open(Arc::clone(&store)).unwrap();
        assert_eq!((&again.plan, again.meta), (&first.plan, first.meta));
        assert_eq!(again.operators.0, first.operators.0);
        let next = Plan {
            version: 4,
            parent: 3,
            ..again.plan.clone()
        };
        let none = HistoryBatch::default();
        repository
            .commit_plan(&again.plan, &next, &[], &none)
            .unwrap();
    });
}

#[test]
fn events_are_a_bounded_ring() {
    each_repository(|store| {
        let (mut repository, _) = Repository::open(Arc::clone(&store)).unwrap();
        let many: Vec<Event> = (1..=EVENTS_MAX + 5).map(started).collect();
        repository.record(&many).unwrap();
        let kept = Repository::events(&*store, 0, usize::MAX).unwrap();
        assert_eq!(kept.len() as u64, EVENTS_MAX);
        assert_eq!(kept[0].sequence, 6);
        drop(repository);
        let (mut again, _) = Repository::open(Arc::clone(&store)).unwrap();
        let next = again.record(&[started(1)]).unwrap();
        assert_eq!(
            next[0].sequence,
            EVENTS_MAX + 6,
            "sequences go on after a restart"
        );
    });
}

fn each_repository(law: impl Fn(Arc<dyn Store>)) {
    let dir = tempfile::tempdir().unwrap();
    let file = RedbStore::open(&dir.path().join("store.redb")).unwrap();
    let rig = Rig::start();
    let etcd = rig.store("/longshore/lab");
    let stores: [Arc<dyn Store>; 3] = [
        Arc::new(MemStore::default()),
        Arc::new(file),
        Arc::new(etcd),
    ];
    for store in stores {
        Repository::create(&*store, &Meta::new("lab".into(), "x".into(), Vec::new())).unwrap();
        law(store);
    }
}

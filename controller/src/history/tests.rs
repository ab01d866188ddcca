//! What the history keeps, over both stores: bounds, age, restarts, a store without room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_model::record::PlacementRecord;
use longshore_model::report::ScaleReport;
use longshore_model::{Decision, Reason};

use super::*;
use crate::store::{Batch, MemStore, Meta, RedbStore, Row, Table};

/// A store that can be full.
struct Fickle {
    inner: Box<dyn Store>,
    full: AtomicBool,
}

impl Store for Fickle {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(table, from, limit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            let place = "here".into();
            return Err(StoreError::Full { place });
        }
        self.inner.write(batch)
    }
}

struct Bench {
    store: Arc<Fickle>,
    repository: Repository,
    history: History,
    config: HistoryConfig,
}

impl Bench {
    fn new(inner: Box<dyn Store>, config: HistoryConfig) -> Self {
        let full = AtomicBool::new(false);
        let store = Arc::new(Fickle { inner, full });
        let meta = Meta::new("lab".into(), "x".into(), Vec::new());
        Repository::create(&*store, &meta).unwrap();
        let dynamic: Arc<dyn Store> = Arc::clone(&store) as _;
        let (repository, _) = Repository::open(dynamic).unwrap();
        let history = History::load(&*store, config.clone()).unwrap();
        Self {
            store,
            repository,
            history,
            config,
        }
    }

    fn decide(&mut self, records: &[DecisionRecord], now_ms: TimeMs) {
        self.history.take(records);
        let prepared = self.history.prepare(&*self.store, now_ms, true).unwrap();
        match self.repository.write_history(&prepared.batch) {
            Ok(()) => self.history.written(&prepared, now_ms),
            Err(StoreError::Full { .. }) => self.history.refused(now_ms),
            Err(error) => panic!("{error}"),
        }
    }

    fn restart(&mut self) {
        self.history = History::load(&*self.store, self.config.clone()).unwrap();
    }

    fn list(&self, limit: usize) -> Vec<Recorded> {
        read(&*self.store, self.history.look(|_| true), limit).unwrap()
    }

    /// (first, last, count) of each record.
    fn streaks(&self) -> Vec<(TimeMs, TimeMs, u64)> {
        let all = self.list(usize::MAX);
        all.iter()
            .map(|r| (r.first_ms, r.last_ms, r.count))
            .collect()
    }

    fn rows(&self, table: Table) -> usize {
        self.store.scan(table, b"", usize::MAX).unwrap().len()
    }
}

fn each(config: &HistoryConfig, law: impl Fn(Bench)) {
    law(Bench::new(Box::<MemStore>::default(), config.clone()));
    let dir = tempfile::tempdir().unwrap();
    let file = RedbStore::open(&dir.path().join("store.redb")).unwrap();
    law(Bench::new(Box::new(file), config.clone()));
}

fn scale_of(service: &str, at_ms: TimeMs, asked: u32) -> DecisionRecord {
    let report = ScaleReport {
        recommendation: Some(asked),
        reasons: vec![Reason::Observing {
            until_ms: at_ms + 5,
        }],
        ..ScaleReport::default()
    };
    DecisionRecord {
        at_ms,
        service: format!("shop/{service}").parse().unwrap(),
        plan_version: 1,
        decision: Decision::Scale(Arc::new(report)),
    }
}

fn scale(at_ms: TimeMs, asked: u32) -> DecisionRecord {
    scale_of("web", at_ms, asked)
}

fn placed(at_ms: TimeMs) -> DecisionRecord {
    let record = PlacementRecord {
        placed: 1,
        ..PlacementRecord::default()
    };
    DecisionRecord {
        decision: Decision::Placement(Arc::new(record)),
        ..scale(at_ms, 0)
    }
}

#[test]
fn what_repeats_is_one_streak_with_its_newest_inputs() {
    each(&HistoryConfig::default(), |mut bench| {
        for at_ms in 1..=5 {
            bench.decide(&[scale(at_ms, 3)], at_ms);
        }
        bench.decide(&[scale(6, 4)], 6);
        bench.decide(&[scale(7, 3)], 7);
        assert_eq!(bench.streaks(), [(1, 5, 5), (6, 6, 1), (7, 7, 1)]);
        assert_eq!(bench.list(9)[0].record, scale(5, 3));
        bench.restart();
        assert_eq!(bench.streaks(), [(1, 5, 5), (6, 6, 1), (7, 7, 1)]);
        bench.decide(&[placed(8), placed(9)], 9);
        assert_eq!(bench.list(9).len(), 5, "two placements are two decisions");
    });
}

#[test]
fn a_streak_that_goes_on_is_rarely_written_and_whole_after_an_orderly_end() {
    each(&HistoryConfig::default(), |mut bench| {
        bench.decide(&[scale(1_000, 3)], 1_000);
        let before = bench.store.scan(Table::Decisions, b"", 9).unwrap();
        for step in 2..200 {
            bench.decide(&[scale(step * 1_000, 3)], step * 1_000);
        }
        let after = bench.store.scan(Table::Decisions, b"", 9).unwrap();
        assert_eq!(before, after, "an unchanged decision was written");
        assert_eq!(bench.streaks(), [(1_000, 199_000, 199)], "but it is shown");
        bench.decide(&[scale(400_000, 3)], 400_000);
        assert_ne!(bench.store.scan(Table::Decisions, b"", 9).unwrap(), after);
        bench.decide(&[scale(401_000, 3)], 401_000);
        bench.history.close();
        bench.decide(&[], 401_001);
        bench.restart();
        assert_eq!(bench.streaks(), [(1_000, 401_000, 201)]);
    });
}

#[test]
fn each_kind_has_its_share_and_the_newest_stay() {
    let config = HistoryConfig {
        records_per_service: 16,
        ..HistoryConfig::default()
    };
    each(&config, |mut bench| {
        bench.decide(&[scale(1, 100)], 1);
        for at_ms in 2..100 {
            bench.decide(&[placed(at_ms)], at_ms);
        }
        let kept: Vec<TimeMs> = bench.list(99).iter().map(|r| r.last_ms).collect();
        assert_eq!(
            kept,
            [1, 98, 99],
            "placements pushed out the scale decision"
        );
        assert_eq!(bench.rows(Table::Decisions), 3, "rows were left behind");
        bench.restart();
        assert_eq!(bench.list(99).len(), 3);
        assert_eq!(bench.list(1).len(), 2, "one of each group");
    });
}

#[test]
fn what_is_old_goes_but_the_last_decision_stays_while_it_is_in_force() {
    let config = HistoryConfig {
        keep_days: 1,
        ..HistoryConfig::default()
    };
    each(&config, |mut bench| {
        for at_ms in 1..=4 {
            bench.decide(&[scale(at_ms, u32::try_from(at_ms).unwrap())], at_ms);
        }
        for second in 0..10 {
            bench.decide(&[], 2 * DAY_MS + second * 1_000);
        }
        assert_eq!(bench.streaks(), [(4, 4, 1)]);
        // Its service is gone and nothing holds it any more.
        bench.restart();
        for second in 0..10 {
            bench.decide(&[], 3 * DAY_MS + second * 1_000);
        }
        assert_eq!(bench.streaks(), []);
        assert_eq!(
            bench.rows(Table::Decisions) + bench.rows(Table::DecisionSpans),
            0
        );
        assert_eq!(bench.history.services().count(), 0);
    });
}

#[test]
fn the_whole_is_bounded_too() {
    let config = HistoryConfig {
        records_total: 20,
        ..HistoryConfig::default()
    };
    each(&config, |mut bench| {
        for at_ms in 1..200_u64 {
            let service = format!("s{}", at_ms % 4);
            let asked = u32::try_from(at_ms).unwrap();
            bench.decide(&[scale_of(&service, at_ms, asked)], at_ms * 1_000);
        }
        let kept = bench.rows(Table::Decisions);
        assert!((16..=24).contains(&kept), "{kept} records");
        assert_eq!(bench.history.services().count(), 4);
    });
}

#[test]
fn without_room_decisions_wait_and_come_in_order_later() {
    each(&HistoryConfig::default(), |mut bench| {
        bench.decide(&[scale(1, 1)], 1);
        bench.store.full.store(true, Ordering::SeqCst);
        for at_ms in 2..=9 {
            bench.decide(
                &[scale(at_ms, u32::try_from(at_ms).unwrap())],
                at_ms * 2_000,
            );
        }
        assert_eq!(bench.rows(Table::Decisions), 1);
        assert_eq!(bench.streaks().len(), 9, "what waits is shown");
        bench.store.full.store(false, Ordering::SeqCst);
        bench.decide(&[], 100_000);
        bench.restart();
        let first: Vec<TimeMs> = bench.streaks().iter().map(|(first, ..)| *first).collect();
        assert_eq!(first, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });
}

#[test]
fn a_damaged_record_is_left_out_and_the_others_are_told() {
    each(&HistoryConfig::default(), |mut bench| {
        for at_ms in 1..=3 {
            bench.decide(&[scale(at_ms, u32::try_from(at_ms).unwrap())], at_ms);
        }
        let (key, mut value) = bench
            .store
            .scan(Table::Decisions, b"", 9)
            .unwrap()
            .remove(1);
        value[9] ^= 1;
        let change = crate::store::Change {
            table: Table::Decisions,
            key,
            value: Some(value),
        };
        let batch = Batch {
            guards: Vec::new(),
            changes: vec![change],
        };
        bench.store.write(&batch).unwrap();
        bench.restart();
        assert_eq!(bench.streaks(), [(1, 1, 1), (3, 3, 1)]);
    });
}

#[test]
fn a_run_whose_plan_was_not_stored_leaves_no_trace() {
    each(&HistoryConfig::default(), |mut bench| {
        bench.decide(&[scale(1, 3)], 1);
        let before = bench.list(99);
        for records in [
            vec![scale(2, 3)],
            vec![scale(2, 9), scale(2, 8), placed(2), scale_of("new", 2, 1)],
        ] {
            let taken = bench.history.take(&records);
            assert_ne!(bench.list(99), before);
            bench.history.undo(taken);
            assert_eq!(bench.list(99), before);
            assert_eq!(bench.history.services().count(), 1);
        }
        bench.decide(&[scale(3, 4)], 3);
        bench.restart();
        assert_eq!(bench.streaks(), [(1, 1, 1), (3, 3, 1)]);
    });
}

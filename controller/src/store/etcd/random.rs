//! Any order of writes, lost answers, late requests, crashes and other leaders, against the plainest
//! store.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use longshore_etcd_host::Way;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::rig::Rig;
use super::tests::{batch, put};
use super::*;
use crate::store::MemStore;

#[derive(Debug, Clone)]
enum Act {
    /// So many rows of so many bytes, with a guard that holds or not.
    Write(usize, usize, bool),
    /// A way loses what it carries, from now on.
    Lose(usize, Lost),
    /// Both ways carry again, also what they held back.
    Mend,
    /// The process ends after so many more transactions.
    Crash(usize),
}

#[derive(Debug, Clone, Copy)]
enum Lost {
    Answers,
    All,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_usize..4, 1_usize..20, prop::bool::weighted(0.8)).prop_map(|(n, b, g)| Act::Write(n, b, g)),
        1 => (100_usize..400, 1_usize..8_000, prop::bool::weighted(0.8)).prop_map(|(n, b, g)| Act::Write(n, b, g)),
        1 => (0_usize..2, prop_oneof![Just(Lost::Answers), Just(Lost::All)]).prop_map(|(n, lost)| Act::Lose(n, lost)),
        2 => Just(Act::Mend),
        1 => (0_usize..8).prop_map(Act::Crash),
    ]
}

struct World {
    ways: [Way; 2],
    rig: Rig,
    model: MemStore,
    prefix: String,
    /// Of writes: no two write the same values.
    count: usize,
}

impl World {
    fn start() -> Self {
        let rig = Rig::start();
        let url = &rig.cluster.members[0].url;
        let ways = [0, 1].map(|_| rig.runtime.block_on(Way::to(url)));
        Self {
            ways,
            rig,
            model: MemStore::default(),
            prefix: String::new(),
            count: 0,
        }
    }

    fn open(&self) -> EtcdStore {
        let mut settings = Rig::settings(&[&self.ways[0].url, &self.ways[1].url]);
        settings.call_deadline = Duration::from_millis(300);
        EtcdStore::open(settings, &self.prefix, self.rig.leadership()).unwrap()
    }

    fn mend(&self) {
        self.ways.iter().for_each(Way::mend);
    }

    fn next(&mut self, rows: usize, bytes: usize, holds: bool) -> Batch {
        self.count += 1;
        let count = self.count;
        let row = |n: usize| match (n + count) % 5 {
            0 => Change {
                value: None,
                ..put(&n.to_string(), "")
            },
            _ => put(&n.to_string(), count.to_string().repeat(bytes)),
        };
        let absent = if holds { "none" } else { "always" };
        Batch {
            guards: vec![Guard {
                table: Table::Apps,
                key: absent.into(),
                expected: None,
            }],
            ..batch((0..rows).map(row).collect())
        }
    }

    /// Writes to both; after a failure that says too little, what is there must be all or nothing.
    fn write(&self, store: &mut EtcdStore, batch: &Batch) {
        match store.write(batch) {
            Ok(()) => self.model.write(batch).unwrap(),
            Err(StoreError::Conflict { .. }) => {
                let error = self.model.write(batch).unwrap_err();
                assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
            }
            Err(error) => {
                assert!(error.is_fatal(), "{error}");
                *store = self.open();
                if rows(store) != rows(&self.model) {
                    self.model.write(batch).unwrap();
                }
            }
        }
    }

    fn run(&mut self, acts: Vec<Act>) {
        self.mend();
        self.model = MemStore::default();
        self.prefix = format!("/longshore/{}", self.count);
        let mut store = self.open();
        let always = batch(vec![put("always", "here")]);
        self.write(&mut store, &always);
        for act in acts {
            match act {
                Act::Write(rows, bytes, holds) => {
                    let batch = self.next(rows, bytes, holds);
                    self.write(&mut store, &batch);
                }
                // One way always works: what is tried here is what comes of the other.
                Act::Lose(n, lost) => {
                    self.mend();
                    match lost {
                        Lost::Answers => self.ways[n].mute(),
                        Lost::All => self.ways[n].cut(),
                    }
                }
                Act::Mend => self.mend(),
                Act::Crash(steps) => store.crash_after(steps),
            }
            if store.steps_left.load(SeqCst) == 0 {
                store = self.open();
            }
            assert!(rows(&store) == rows(&self.model), "after {act:?}");
        }
    }
}

fn rows(store: &dyn Store) -> Vec<Row> {
    store.scan(Table::Apps, b"", usize::MAX).unwrap()
}

#[test]
fn whatever_is_lost_or_late_what_is_written_is_written_once() {
    let mut world = World::start();
    let mut runner = TestRunner::new(ProptestConfig::default());
    // Each takes seconds, so there are few, and none is made shorter: the last one printed fails.
    for _ in 0..12 {
        let acts = prop::collection::vec(act(), 5..25);
        let acts = acts.new_tree(&mut runner).unwrap().current();
        println!("{acts:?}");
        world.run(acts);
    }
}

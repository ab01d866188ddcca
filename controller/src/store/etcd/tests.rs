//! What only etcd can do to a store: crashes between transactions, lost answers, other leaders.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use longshore_etcd::{Op, Txn};
use longshore_etcd_host::{Way, patient, until};

use super::compaction::Compaction;
use super::rig::{KEY, Rig};
use super::*;

const ROW: &[u8] = b"row";

pub(super) fn put(key: &str, value: impl Into<Vec<u8>>) -> Change {
    Change {
        table: Table::Apps,
        key: key.into(),
        value: Some(value.into()),
    }
}

pub(super) fn batch(changes: Vec<Change>) -> Batch {
    Batch {
        guards: Vec::new(),
        changes,
    }
}

fn one(value: &str) -> Batch {
    batch(vec![put("row", value)])
}

fn get(store: &EtcdStore) -> Option<Vec<u8>> {
    store.get(Table::Apps, ROW).unwrap()
}

/// More than two transactions take, and three parts of a journal.
fn large() -> Batch {
    let rows = (0..300).map(|n| put(&format!("{n:03}"), vec![7; 9_000]));
    batch(rows.chain([put("row", "new")]).collect())
}

impl EtcdStore {
    /// From the next but `steps` transactions on, none is sent any more.
    pub(super) fn crash_after(&self, steps: usize) {
        self.steps_left.store(steps, SeqCst);
    }
}

#[test]
fn a_crash_at_any_step_of_a_large_write_leaves_all_or_nothing() {
    let rig = Rig::start();
    let (mut kept, mut made) = (0, 0);
    for steps in 0.. {
        let prefix = format!("/longshore/{steps}");
        let store = rig.store(&prefix);
        store.write(&one("old")).unwrap();
        store.crash_after(steps);
        let written = store.write(&large());
        let whole = store.steps_left.load(SeqCst) > 0;
        drop(store);
        let again = rig.store(&prefix);
        let rows = again.scan(Table::Apps, b"", usize::MAX).unwrap();
        match (rows.len(), &written) {
            (1, Err(error)) if get(&again).unwrap() == b"old" => {
                assert!(error.is_fatal(), "{error}");
                kept += 1;
            }
            (301, Ok(())) if get(&again).unwrap() == b"new" => made += 1,
            (rows, written) => panic!("{rows} rows after {steps} steps, {written:?}"),
        }
        assert_eq!(again.read_chunks().unwrap().len(), 0);
        again.write(&large()).unwrap();
        assert_eq!(again.read_chunks().unwrap().len(), 0);
        if whole {
            break;
        }
    }
    assert!(kept >= 4 && made >= 4, "{kept} kept, {made} made");
}

#[test]
fn nothing_is_read_while_a_large_write_is_half_in_place() {
    let rig = Rig::start();
    let store = rig.store("/longshore/lab");
    // Three parts, the head, the first rows.
    store.crash_after(5);
    store.write(&large()).unwrap();
    store.get(Table::Apps, ROW).unwrap_err();
    store.scan(Table::Apps, b"", 1).unwrap_err();
    store.write(&one("newer")).unwrap_err();
    store.crash_after(usize::MAX);
    assert_eq!(get(&store).unwrap(), b"new");
    store.write(&one("newer")).unwrap();
    assert_eq!(get(&store).unwrap(), b"newer");
}

/// How often the row was written is etcd's count of its versions.
fn versions(store: &EtcdStore) -> u64 {
    let row = store.read_row(store.keys.row(Table::Apps, ROW)).unwrap();
    row.unwrap().version
}

#[test]
fn a_write_of_which_the_answer_or_the_request_is_lost_is_made_once() {
    for lose in [Way::mute, Way::cut] {
        let rig = Rig::start();
        let url = &rig.cluster.members[0].url;
        let ways = [0, 1].map(|_| rig.runtime.block_on(Way::to(url)));
        let settings = Rig::settings(&[&ways[0].url, &ways[1].url]);
        let store = EtcdStore::open(settings, "/longshore/lab", rig.leadership()).unwrap();
        store.write(&one("1")).unwrap();
        let client = store.calls.client();
        let held = rig.runtime.block_on(client.status()).unwrap().endpoint;
        lose(ways.iter().find(|way| way.url == held).unwrap());
        let next = Batch {
            guards: vec![Guard {
                table: Table::Apps,
                key: ROW.into(),
                expected: Some(b"1".into()),
            }],
            ..one("2")
        };
        store.write(&next).unwrap();
        assert_eq!((get(&store).unwrap(), versions(&store)), (b"2".to_vec(), 2));
        store.write(&one("3")).unwrap();
    }
}

#[test]
fn a_request_that_comes_late_is_not_made_after_later_ones() {
    let rig = Rig::start();
    let url = &rig.cluster.members[0].url;
    let ways = [0, 1].map(|_| rig.runtime.block_on(Way::to(url)));
    let settings = Rig::settings(&[&ways[0].url, &ways[1].url]);
    let store = EtcdStore::open(settings, "/longshore/lab", rig.leadership()).unwrap();
    let client = store.calls.client();
    let held = rig.runtime.block_on(client.status()).unwrap().endpoint;
    let way = ways.iter().find(|way| way.url == held).unwrap();
    way.cut();
    store.write(&one("1")).unwrap();
    store.write(&one("2")).unwrap();
    way.mend();
    // It is there within a few of these.
    for _ in 0..300 {
        assert_eq!(get(&store).unwrap(), b"2");
    }
    assert_eq!(versions(&store), 2);
}

/// Writes 1, 2, 3…, each upon the one before, and calls `fault` after the first few. Gives the
/// longest time that one took.
fn count_up(store: &EtcdStore, fault: impl FnOnce()) -> Duration {
    let (mut slowest, mut fault) = (Duration::ZERO, Some(fault));
    for n in 1..=60_u32 {
        let before = (n > 1).then(|| (n - 1).to_string().into_bytes());
        let next = Batch {
            guards: vec![Guard {
                table: Table::Apps,
                key: ROW.into(),
                expected: before,
            }],
            ..one(&n.to_string())
        };
        if n == 20
            && let Some(fault) = fault.take()
        {
            fault();
        }
        let begun = Instant::now();
        store.write(&next).unwrap();
        slowest = slowest.max(begun.elapsed());
        assert_eq!(versions(store), u64::from(n));
    }
    slowest
}

#[test]
fn members_of_etcd_may_freeze_and_die() {
    let mut rig = Rig::with(3, &[]);
    let store = rig.store("/longshore/frozen");
    let client = store.calls.client();
    let held = rig.runtime.block_on(client.status()).unwrap().endpoint;
    let frozen = &rig.cluster.members[rig.cluster.place(&held)];
    println!("frozen: {:?}", count_up(&store, || frozen.freeze()));
    frozen.thaw();
    let store = rig.store("/longshore/killed");
    let leader = rig.runtime.block_on(rig.cluster.leader());
    let killed = &mut rig.cluster.members[leader];
    println!("killed: {:?}", count_up(&store, || killed.kill()));
}

#[test]
fn a_scan_of_several_pages_is_as_of_one_moment() {
    let rig = Rig::start();
    let store = rig.store("/longshore/lab");
    let rows = (0..2_500).map(|n| put(&format!("{n:04}"), "0"));
    store.write(&batch(rows.collect())).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let write = || {
            for n in (0..).take_while(|_| !done.load(SeqCst)) {
                let value = n.to_string();
                let ends = vec![put("0000", value.clone()), put("2499", value)];
                store.write(&batch(ends)).unwrap();
                if n % 100 == 99 {
                    // Now and then it takes away what a scan goes on from.
                    let client = store.calls.client();
                    let revision = store.chain().revision();
                    rig.runtime.block_on(client.compact(revision)).unwrap();
                }
            }
        };
        scope.spawn(write);
        let scan = |_| store.scan(Table::Apps, b"", usize::MAX);
        let scans: Vec<_> = (0..60).map(scan).collect();
        done.store(true, SeqCst);
        for rows in scans {
            let rows = rows.unwrap();
            assert_eq!(rows.len(), 2_500);
            assert_eq!(rows[0].1, rows[2_499].1);
        }
    });
}

#[test]
fn a_deposed_leader_changes_nothing_even_if_it_does_not_know() {
    let rig = Rig::start();
    // The store reaches etcd, the election does not: nothing tells it.
    let url = rig.cluster.members[0].url.clone();
    let way = rig.runtime.block_on(Way::to(&url));
    let rival = rig.client();
    let gone = Txn::new().then(Op::Delete(Span::key(KEY)));
    let old = {
        let _entered = rig.runtime.enter();
        rig.runtime.block_on(rival.txn(gone.clone())).unwrap();
        rig.lead_by(&patient(&[&way.url]))
    };
    let settings = || Rig::settings(&[&url]);
    let store = EtcdStore::open(settings(), "/longshore/lab", old.clone()).unwrap();
    store.write(&one("old")).unwrap();
    way.cut();
    rig.runtime.block_on(rival.txn(gone)).unwrap();
    let error = store.write(&one("mine")).unwrap_err();
    assert!(error.to_string().contains("nobody does"), "{error}");
    let new = rig.lead_by(&rival);
    let next = EtcdStore::open(settings(), "/longshore/lab", new.clone()).unwrap();
    next.write(&one("new")).unwrap();
    for batch in [one("mine"), large()] {
        assert!(old.is_valid(Instant::now()), "it was told");
        let error = store.write(&batch).unwrap_err();
        assert!(error.is_fatal(), "{error}");
        let term = format!("the leader of term {} does", new.term());
        assert!(error.to_string().contains(&term), "{error}");
    }
    assert_eq!(get(&next).unwrap(), b"new");
    let rows = next.scan(Table::Apps, b"", usize::MAX).unwrap();
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_leadership_that_has_ended_neither_reads_nor_writes() {
    let rig = Rig::start();
    let store = rig.store("/longshore/lab");
    store.write(&one("1")).unwrap();
    let gone = Txn::new().then(Op::Delete(Span::key(KEY)));
    rig.runtime.block_on(rig.client().txn(gone)).unwrap();
    rig.runtime.block_on(rig.leadership().ended());
    for error in [
        store.write(&one("2")).unwrap_err(),
        store.get(Table::Apps, ROW).unwrap_err(),
        store.scan(Table::Apps, b"", 1).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Deposed { .. }), "{error}");
        assert!(error.is_fatal());
    }
}

#[test]
fn a_second_store_of_the_same_leadership_ends_the_first() {
    let rig = Rig::start();
    let first = rig.store("/longshore/lab");
    first.write(&one("1")).unwrap();
    let second = rig.store("/longshore/lab");
    let error = first.write(&one("2")).unwrap_err();
    assert!(matches!(error, StoreError::Deposed { .. }), "{error}");
    assert_eq!(get(&second).unwrap(), b"1");
    second.write(&one("3")).unwrap();
}

#[test]
fn a_full_etcd_refuses_writes_and_is_read() {
    let rig = Rig::with(1, &["--quota-backend-bytes", "3000000"]);
    let store = rig.store("/longshore/lab");
    store.write(&one("1")).unwrap();
    let mut refused = None;
    for n in 0..100 {
        if let Err(error) = store.write(&batch(vec![put(&format!("{n}"), vec![7; 200_000])])) {
            refused = Some((n, error));
            break;
        }
    }
    let (n, error) = refused.expect("it never filled up");
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(!error.is_fatal());
    assert_eq!(get(&store).unwrap(), b"1");
    let missing = store.get(Table::Apps, format!("{n}").as_bytes()).unwrap();
    assert!(missing.is_none(), "refused, and made");
    let error = store.write(&large()).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
}

#[test]
fn a_row_that_etcd_cannot_hold_is_named() {
    let rig = Rig::start();
    let store = rig.store("/longshore/lab");
    let large = batch(vec![put("row", vec![7; 1_600_000]), put("other", "1")]);
    let error = store.write(&large).unwrap_err();
    assert!(
        error.to_string().contains("bytes of row row of apps"),
        "{error}"
    );
    assert!(!error.is_fatal());
    assert!(store.scan(Table::Apps, b"", 9).unwrap().is_empty());
    let guards = (0..127).map(|n| Guard {
        table: Table::Apps,
        key: format!("{n}").into_bytes(),
        expected: None,
    });
    let guarded = |count| Batch {
        guards: guards.clone().take(count).collect(),
        ..one("1")
    };
    store.write(&guarded(126)).unwrap();
    let error = store.write(&guarded(127)).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooLarge {
                size: 127,
                max: 126,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn without_etcd_a_read_says_so() {
    let mut rig = Rig::start();
    let mut settings = Rig::settings(&rig.cluster.urls());
    settings.patience = Duration::from_secs(3);
    let store = EtcdStore::open(settings, "/longshore/lab", rig.leadership()).unwrap();
    rig.cluster.members[0].kill();
    let error = store.get(Table::Apps, ROW).unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error}");
    assert!(!error.is_fatal());
    // Nobody is held on to: nothing was sent.
    let error = store.write(&one("1")).unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error}");
    assert_eq!(store.bytes(), None);
}

#[test]
fn a_task_may_call_and_drop_a_store() {
    let rig = Rig::start();
    let store = rig.store("/longshore/lab");
    rig.runtime.block_on(async move {
        store.write(&one("1")).unwrap();
        assert_eq!(get(&store).unwrap(), b"1");
        assert!(store.bytes().unwrap() > 0);
        drop(store);
    });
}

#[test]
fn the_past_is_forgotten_as_rows_are_written() {
    let rig = Rig::start();
    let store = rig.store("/longshore/lab");
    store.chain().compaction = Compaction::keeping(Duration::ZERO);
    store.write(&one("1")).unwrap();
    let first = store.chain().revision();
    store.write(&one("2")).unwrap();
    store.write(&one("3")).unwrap();
    let client = rig.client();
    rig.runtime.block_on(until("it is forgotten", async || {
        let past = Range::of(Span::key(store.keys.mark())).at(first);
        match client.range(past).await {
            Err(error) if error.refusal() == Some(&Refusal::Compacted) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }));
    assert_eq!(get(&store).unwrap(), b"3");
}

//! Points come in, are kept for a day, and survive a start.

use std::sync::Arc;

use longshore_model::recording::Load;

use super::*;
use crate::store::MemStore;

const DAY_MS: u64 = 86_400_000;

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn point(number: u64) -> Point {
    let mut point = Point {
        at_ms: number * RESOLUTION_MS,
        wanted: 2,
        ready: 2,
        ..Point::default()
    };
    // Never the same twice.
    point.loads[Load::Cpu.index()] = Some(crate::recording::tests::float(number % 977));
    point
}

#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

fn recorded(service: &ServiceKey, count: u64) -> Recording {
    let mut recording = Recording::default();
    for number in 1..=count {
        recording.push(service, &point(number));
        recording.trim(number * RESOLUTION_MS, BYTES_MAX);
    }
    recording
}

#[test]
fn a_day_is_kept_in_few_bytes_and_read_by_time() {
    let web = key("shop/web");
    let recording = recorded(&web, 10_000);
    let all = recording.points(&web, 0, TimeMs::MAX);
    // Whole chunks are forgotten.
    let kept = all.len();
    assert!((POINTS_MAX..POINTS_MAX + 61).contains(&kept), "{kept}");
    assert_eq!(all.last().unwrap().at_ms, 10_000 * RESOLUTION_MS);
    assert!(
        all.windows(2)
            .all(|w| w[1].at_ms == w[0].at_ms + RESOLUTION_MS)
    );
    assert!(recording.bytes < 100_000, "{} bytes", recording.bytes);
    let few = recording.points(&web, 99_000_005, 99_030_000);
    let times: Vec<u64> = few.iter().map(|point| point.at_ms).collect();
    assert_eq!(times, [99_010_000, 99_020_000, 99_030_000]);
}

#[test]
fn the_oldest_of_all_services_make_way_and_clocks_put_back_add_nothing() {
    let mut recording = recorded(&key("shop/old"), 120);
    for number in 61..=180 {
        recording.push(&key("shop/new"), &point(number));
    }
    let before = recording.bytes;
    recording.push(&key("shop/new"), &point(100));
    assert_eq!(recording.bytes, before);
    recording.trim(DAY_MS / 2, before - 1);
    assert_eq!(recording.points(&key("shop/old"), 0, TimeMs::MAX).len(), 60);
    assert_eq!(
        recording.points(&key("shop/new"), 0, TimeMs::MAX).len(),
        120
    );
    recording.trim(DAY_MS / 2, 0);
    assert_eq!((recording.bytes, recording.services().count()), (0, 0));
}

#[test]
fn what_was_written_is_there_after_a_start_and_what_was_forgotten_is_not() {
    let store: Arc<dyn Store> = Arc::new(MemStore::default());
    let web = key("shop/web");
    let mut recording = recorded(&web, 130);
    let save = |recording: &mut Recording| {
        let (batch, _) = recording.take_unsaved().unwrap();
        let changes = batch.changes;
        store
            .write(&crate::store::Batch {
                guards: Vec::new(),
                changes,
            })
            .unwrap();
    };
    save(&mut recording);
    assert_eq!(recording.take_unsaved().unwrap().1, []);
    let read = Recording::load(&*store);
    assert_eq!(read.services, recording.services);
    // The last chunk goes on growing.
    let mut read = read;
    read.push(&web, &point(131));
    assert_eq!(read.services[&web].len(), 3);
    read.trim(DAY_MS + 700 * 1_000, BYTES_MAX);
    save(&mut read);
    let left = Recording::load(&*store).points(&web, 0, TimeMs::MAX);
    assert_eq!((left.len(), left[0].at_ms), (71, 610_000));
}

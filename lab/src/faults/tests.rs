//! What can be known of the cases without a lab.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cases::{ALL, Bound};
use super::changes::{self, Ledger};
use super::outcome::{Outcome, Requests};
use super::{Settings, lists};

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn what_was_acknowledged_is_there_once() {
    let ledger = Ledger {
        acked: names(&["a", "b"]),
        unknown: names(&["c"]),
    };
    let once = |all: &[&str]| all.iter().map(|&name| (name.to_owned(), 1)).collect();
    let fine = |kept: &[&str]| changes::compare(&ledger, &names(kept), &once(kept));
    assert!(fine(&["a", "b"]).is_empty());
    assert!(fine(&["a", "b", "c"]).is_empty(), "nobody knew");
    assert_eq!(fine(&["a"]), ["acknowledged changes lost: b"]);
    assert_eq!(fine(&["a", "b", "d"]), ["changes that nobody made: d"]);
    let mut twice: std::collections::BTreeMap<_, _> = once(&["a", "b"]);
    twice.insert("b".to_owned(), 2);
    let said = changes::compare(&ledger, &names(&["a", "b"]), &twice);
    assert_eq!(said, ["changes made twice: b"]);
}

#[test]
fn servers_that_are_up_are_those_of_the_port() {
    let csv = "# pxname,svname,status,addr,\n\
        be_bench_bench_8090,slot1,UP,10.0.0.1:20001,\n\
        be_bench_bench_8090,slot2,UP 1/3,10.0.0.2:20001,\n\
        be_bench_bench_8090,slot3,DOWN,10.0.0.3:20001,\n\
        be_bench_bench_8090,slot4,MAINT,127.0.0.1:1,\n\
        be_bench_bench_8090,BACKEND,UP,,\n\
        be_bench_queue_8093,slot1,UP,10.0.0.1:20002,\n";
    let expected = names(&["10.0.0.1:20001", "10.0.0.2:20001"]);
    assert_eq!(lists::up(csv, "8090"), expected);
}

#[test]
fn settings_name_cases_that_exist() {
    let all = Settings::read("", "").unwrap();
    assert!(ALL.iter().all(|case| all.has(case.number)));
    let some = Settings::read("5, 8", "3").unwrap();
    assert!(some.has(5) && some.has(8) && !some.has(1) && some.rounds == 3);
    for (cases, rounds) in [("25", ""), ("x", ""), ("", "0"), ("", "many")] {
        assert!(Settings::read(cases, rounds).is_err(), "{cases} {rounds}");
    }
}

#[test]
fn numbers_rise_and_names_fit_their_column() {
    assert!(ALL.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(ALL.iter().all(|case| case.name.chars().count() <= 34));
}

#[test]
fn failures_count_by_when_they_began() {
    let tally = crate::traffic::Tally::default();
    let judged = |number: u8, failed: u64, last: Option<u64>| {
        let case = ALL.iter().find(|case| case.number == number).unwrap();
        let mut outcome = Outcome {
            requests: Requests {
                sent: 100,
                failed,
                last_failed: last.map(Duration::from_millis),
                classes: Vec::new(),
            },
            recovered: Some(Duration::from_secs(1)),
            ..Outcome::default()
        };
        outcome.judge(case, None, None, &tally);
        outcome.line(case)
    };
    let calm = ALL.iter().find(|case| case.failed == Bound::None).unwrap();
    assert!(judged(calm.number, 0, None).contains(" ok "));
    assert!(judged(calm.number, 1, Some(0)).contains("WRONG: 1 failed"));
    assert!(judged(5, 7, Some(1_900)).contains(" ok "));
    assert!(judged(5, 7, Some(2_100)).contains("WRONG: failed later than 2.0 s"));
}

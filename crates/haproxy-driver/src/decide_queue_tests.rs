//! Those that leave serve what waits while nobody else does.

use super::*;

/// Replica 1 leaves with so much before it.
fn leaver(queued: Option<u32>, wanted: &[(u64, ServerMode)], pool: &[RunningServer]) -> Decision {
    let want = intent(wanted);
    let map = slots(&[(1, held(1, true)), (2, held(2, false))]);
    let pool: Vec<_> = (1..).zip(pool.iter().cloned()).collect();
    let mut world = running(&pool);
    world.queues.clear();
    let queue = queued.map(|queued| (BACKEND.to_owned(), queued));
    world.queues.extend(queue);
    look(&want, &map, &world)
}

const DRAIN: &str = "set server be_shop_web_80/slot1 state drain";

#[test]
fn the_last_one_stays_in_while_something_waits_and_is_let_in_once_more() {
    let waits = leaver(Some(3), &[(1, Drain)], &[now(1, Ready, 2)]);
    assert_eq!((wire(&waits), waits.finishing), (vec![], 1));
    let comes_back = leaver(Some(1), &[(1, Drain)], &[now(1, Draining, 2)]);
    assert_eq!(
        wire(&comes_back),
        [
            "set server be_shop_web_80/slot1 state ready",
            "set maxconn server be_shop_web_80/slot1 9",
        ]
    );
    assert!(comes_back.drift.is_empty(), "{:?}", comes_back.drift);
    let over = leaver(Some(0), &[(1, Drain)], &[now(1, Ready, 2)]);
    assert_eq!((wire(&over), over.finishing), (vec![DRAIN.to_owned()], 0));
}

#[test]
fn what_was_not_read_changes_nothing() {
    for admin in [Ready, Draining] {
        let unread = leaver(None, &[(1, Drain)], &[now(1, admin, 2)]);
        assert_eq!((wire(&unread), unread.finishing), (vec![], 1));
    }
}

#[test]
fn one_that_does_not_answer_serves_nobody() {
    let down = leaver(Some(3), &[(1, Drain)], &[now(1, Ready, 0)]);
    assert_eq!((wire(&down), down.finishing), (vec![DRAIN.to_owned()], 0));
    let out = leaver(Some(3), &[(1, Drain)], &[now(1, Draining, 0)]);
    assert_eq!((wire(&out), out.finishing), (vec![], 0));
}

#[test]
fn it_goes_as_soon_as_a_successor_takes_requests() {
    let wanted = [(1, Drain), (2, Serve)];
    let joins = leaver(Some(3), &wanted, &[now(1, Ready, 2), now(2, Draining, 1)]);
    assert_eq!((wire(&joins), joins.finishing), (vec![], 1));
    let serves = leaver(Some(3), &wanted, &[now(1, Ready, 2), now(2, Ready, 2)]);
    assert_eq!(
        (wire(&serves), serves.finishing),
        (vec![DRAIN.to_owned()], 0)
    );
}

#[test]
fn who_was_said_to_be_drained_is_not_let_in_again() {
    let want = intent(&[(1, Drain)]);
    let map = slots(&[(1, held(1, true))]);
    let mut world = running(&[(1, now(1, Draining, 2))]);
    world.queues.insert(BACKEND.to_owned(), 3);
    let over = BTreeSet::from([ReplicaId(1)]);
    let worker = Worker {
        running: Some(&world),
        version: RELEASE,
        vouched: &NOBODY,
        over: &over,
    };
    let decision = decide(&want, &map, worker, &Settings::default());
    assert_eq!((wire(&decision), decision.finishing), (vec![], 0));
    // Nor by a worker that starts from the file.
    assert_eq!(decision.slots.backends[BACKEND][&1], held(1, false));
}

#[test]
fn it_stays_in_for_what_waits_at_another_edge() {
    let mut want = intent(&[(1, Drain)]);
    want.backends.values_mut().next().unwrap().holds = true;
    let map = slots(&[(1, held(1, true))]);
    let stays = look(&want, &map, &running(&[(1, now(1, Ready, 2))]));
    assert_eq!((wire(&stays), stays.finishing), (vec![], 1));
    // After a restart, or drained a moment before the word came.
    let comes_back = look(&want, &map, &running(&[(1, now(1, Draining, 2))]));
    assert!(wire(&comes_back)[0].ends_with("slot1 state ready"));
    want = intent(&[(1, Drain)]);
    let goes = look(&want, &map, &running(&[(1, now(1, Ready, 2))]));
    assert_eq!(wire(&goes), [DRAIN]);
}

//! What a hand changed beside states, addresses and weights.

use super::*;

#[test]
fn what_a_hand_set_on_a_slot_is_put_back_whoever_holds_it() {
    let want = intent(&[(1, Serve)]);
    let map = slots(&[(1, held(1, true)), (2, Holder::Free)]);
    let mut serving = now(1, Ready, 2);
    serving.check_address = Some(address(9));
    serving.limit = Some(3);
    let mut parked = now(0, Maint, 0);
    parked.check_port = 8001;
    let seen = look(&want, &map, &running(&[(1, serving), (2, parked)]));
    assert_eq!(
        wire(&seen),
        [
            "set server be_shop_web_80/slot1 check-addr 0.0.0.0",
            "set maxconn server be_shop_web_80/slot1 9",
            "set server be_shop_web_80/slot2 check-port 0",
        ]
    );
    assert_eq!(
        seen.drift,
        [
            "be_shop_web_80/slot1 (r1) was checked at another address",
            "be_shop_web_80/slot1 (r1) had another limit",
            "be_shop_web_80/slot2 was checked at another port",
        ]
    );
    assert!(seen.joining.is_empty());
    // Its own port, and the limit of what is loaded, are none.
    let mut serving = now(1, Ready, 2);
    (serving.check_port, serving.limit) = (8000, Some(7));
    let mut map = slots(&[(1, held(1, true))]);
    let route = RouteSpec {
        maxconn_per_replica: 7,
        ..RouteSpec::new(80, 80)
    };
    map.loaded.insert(BACKEND.to_owned(), route);
    let seen = look(&want, &map, &running(&[(1, serving)]));
    assert_eq!((wire(&seen), seen.drift), (vec![], vec![]));
}

#[test]
fn a_newcomer_is_not_proven_by_what_its_check_asked_elsewhere() {
    let want = intent(&[(7, Serve)]);
    let map = slots(&[(1, held(7, false))]);
    let mut server = now(7, Draining, 2);
    server.check_port = 8001;
    let seen = look(&want, &map, &running(&[(1, server)]));
    assert_eq!(
        wire(&seen),
        [
            "set server be_shop_web_80/slot1 check-port 0",
            "set server be_shop_web_80/slot1 state maint",
            "set server be_shop_web_80/slot1 addr 10.0.0.7 port 8000",
            "set server be_shop_web_80/slot1 state drain",
        ]
    );
    assert!(seen.joining.contains(&ReplicaId(7)));
}

#[test]
fn servers_of_somebody_else_are_taken_out_and_unchecked_ones_loaded_anew() {
    let want = intent(&[(1, Serve)]);
    let map = slots(&[(1, held(1, true))]);
    let mut unchecked = now(0, Maint, 0);
    unchecked.check_configured = false;
    let mut there = running(&[(1, now(1, Ready, 2)), (2, unchecked)]);
    there.strangers = vec![
        (BACKEND.to_owned(), "x".to_owned()),
        ("other".to_owned(), "y".to_owned()),
    ];
    let seen = look(&want, &map, &there);
    assert_eq!(wire(&seen), ["set server be_shop_web_80/x state maint"]);
    assert_eq!(seen.drift, ["be_shop_web_80/x was added by somebody else"]);
    assert!(seen.reload.values().eq([&UNCHECKED]));
}

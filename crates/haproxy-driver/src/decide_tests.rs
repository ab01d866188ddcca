use std::net::{IpAddr, Ipv4Addr};

use longshore_model::ServiceKey;
use longshore_model::route::Weights;
use longshore_model::routes::{Backend, Routes};
use longshore_model::spec::RouteSpec;
use proptest::prelude::*;

use super::*;
use crate::slots::for_reload;

const BACKEND: &str = "be_shop_web_80";
const RELEASE: Option<Version> = Some(Version::new(2, 6, 12));

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn intent(servers: &[(u64, ServerMode)]) -> Intent {
    let key: ServiceKey = "shop/web".parse().unwrap();
    let servers = servers
        .iter()
        .map(|&(id, mode)| Server {
            replica: ReplicaId(id),
            address: address(u8::try_from(id).unwrap()),
            port: 8000,
            mode,
            weight: None,
        })
        .collect();
    let route = RouteSpec {
        maxconn_per_replica: 9,
        ..RouteSpec::new(80, 80)
    };
    let routes = Routes {
        generation: 1,
        backends: vec![Backend {
            service: key,
            route,
            servers,
            holds: false,
        }],
        ..Routes::default()
    };
    let (intent, errors) = Intent::compile(&routes, &BTreeSet::new(), &[8404]);
    assert!(errors.is_empty(), "{errors:?}");
    intent
}

fn slots(list: &[(SlotNumber, Holder)]) -> SlotMap {
    let pool = list.iter().copied().collect();
    SlotMap {
        backends: BTreeMap::from([(BACKEND.to_owned(), pool)]),
        reload_owed: false,
        loaded: BTreeMap::new(),
    }
}

fn held(id: u64, proven: bool) -> Holder {
    Holder::Replica {
        id: ReplicaId(id),
        proven,
    }
}

/// A server as HAProxy has it; `id` 0 is the parked address.
fn now(id: u64, admin: ServerAdmin, health: u32) -> RunningServer {
    let (address, port) = if id == 0 {
        (PARKED.ip(), PARKED.port())
    } else {
        (address(id as u8), 8000)
    };
    RunningServer {
        address: Some(address),
        port,
        admin,
        up: health > 0,
        check_health: health,
        check_enabled: true,
        check_configured: true,
        check_port: 0,
        check_address: None,
        limit: None,
        weight: EQUAL,
        load: Some(Load::default()),
        answers: Default::default(),
        line: String::new(),
    }
}

fn running(list: &[(SlotNumber, RunningServer)]) -> Running {
    let pool = list.iter().cloned().collect();
    Running {
        backends: BTreeMap::from([(BACKEND.to_owned(), pool)]),
        queues: BTreeMap::from([(BACKEND.to_owned(), 0)]),
        ..Running::default()
    }
}

fn look(intent: &Intent, slots: &SlotMap, running: &Running) -> Decision {
    let vouched = BTreeSet::new();
    let worker = Worker {
        running: Some(running),
        version: RELEASE,
        vouched: &vouched,
        over: &NONE,
    };
    decide(intent, slots, worker, &Settings::default())
}

fn wire(decision: &Decision) -> Vec<String> {
    decision.steps.iter().map(Step::wire).collect()
}

use ServerAdmin::{Drain as Draining, Maint, Ready};
use ServerMode::{Drain, Serve};

#[test]
fn a_newcomer_is_addressed_in_maint_and_then_drained_until_its_check_passes() {
    let want = intent(&[(7, Serve)]);
    let first = look(
        &want,
        &slots(&[(1, Holder::Free)]),
        &running(&[(1, now(0, Maint, 0))]),
    );
    assert_eq!(
        wire(&first),
        [
            "set server be_shop_web_80/slot1 addr 10.0.0.7 port 8000",
            "set server be_shop_web_80/slot1 state drain",
        ]
    );
    assert_eq!(first.slots, slots(&[(1, held(7, false))]));
    // Out of maint it stands at `rise`, as up, and was not asked.
    let asked = look(&want, &first.slots, &running(&[(1, now(7, Draining, 1))]));
    assert_eq!((wire(&asked), asked.joining.len()), (vec![], 1));
    let failed = look(&want, &first.slots, &running(&[(1, now(7, Draining, 0))]));
    assert_eq!((wire(&failed), failed.joining.len()), (vec![], 1));
    let passed = look(&want, &first.slots, &running(&[(1, now(7, Draining, 2))]));
    assert_eq!(
        wire(&passed),
        [
            "set server be_shop_web_80/slot1 state ready",
            "set maxconn server be_shop_web_80/slot1 9"
        ]
    );
    let done = look(&want, &passed.slots, &running(&[(1, now(7, Ready, 2))]));
    assert_eq!(
        (wire(&done), done.slots.clone()),
        (vec![], slots(&[(1, held(7, true))]))
    );
    assert!(done.joining.is_empty() && done.drift.is_empty(), "{done:?}");
}

#[test]
fn a_probe_of_a_moment_ago_counts_unless_haproxy_says_down() {
    let want = intent(&[(7, Serve)]);
    let vouched = want
        .backends
        .keys()
        .map(|name| (name.clone(), ReplicaId(7)))
        .collect();
    let decide_at = |health| {
        let running = running(&[(1, now(7, Draining, health))]);
        let worker = Worker {
            running: Some(&running),
            version: RELEASE,
            vouched: &vouched,
            over: &NONE,
        };
        wire(&decide(
            &want,
            &slots(&[(1, held(7, false))]),
            worker,
            &Settings::default(),
        ))
    };
    assert_eq!(
        decide_at(1),
        [
            "set server be_shop_web_80/slot1 state ready",
            "set maxconn server be_shop_web_80/slot1 9"
        ]
    );
    assert_eq!(decide_at(0), Vec::<String>::new());
}

#[test]
fn a_leaver_is_drained_then_out_then_parked_and_its_slot_waits_for_the_last_session() {
    let drain = look(
        &intent(&[(7, Drain)]),
        &slots(&[(1, held(7, true))]),
        &running(&[(1, now(7, Ready, 2))]),
    );
    assert_eq!(
        wire(&drain),
        ["set server be_shop_web_80/slot1 state drain"]
    );
    let gone = intent(&[]);
    let out = look(&gone, &drain.slots, &running(&[(1, now(7, Draining, 2))]));
    assert_eq!(
        wire(&out),
        [
            "set server be_shop_web_80/slot1 state maint",
            "set server be_shop_web_80/slot1 addr 127.0.0.1 port 1",
        ]
    );
    let mut busy = now(0, Maint, 0);
    busy.load = Some(Load {
        sessions: 0,
        queued: 3,
    });
    let waits = look(&gone, &out.slots, &running(&[(1, busy.clone())]));
    assert_eq!((wire(&waits), waits.leaving), (vec![], 1));
    busy.load = None;
    let unknown = look(&gone, &out.slots, &running(&[(1, busy)]));
    assert_eq!(unknown.leaving, 1, "a load that was not read is not zero");
    let free = look(&gone, &out.slots, &running(&[(1, now(0, Maint, 0))]));
    assert_eq!(free.slots, slots(&[(1, Holder::Free)]));
}

#[test]
fn a_full_pool_grows_and_a_slot_that_is_leaving_is_not_given_away() {
    let grown = look(
        &intent(&[(7, Serve)]),
        &slots(&[(1, Holder::Leaving)]),
        &running(&[(1, {
            let mut busy = now(0, Maint, 0);
            busy.load = Some(Load {
                sessions: 1,
                queued: 0,
            });
            busy
        })]),
    );
    assert_eq!(
        wire(&grown),
        [
            "add server be_shop_web_80/slot2 10.0.0.7:8000 check inter 500ms fastinter 100ms \
             downinter 500ms rise 1 fall 2 observe layer4 error-limit 3 on-error sudden-death \
             maxconn 9 pool-purge-delay 5s pool-max-conn -1",
            "enable health be_shop_web_80/slot2",
            "set server be_shop_web_80/slot2 state drain",
        ]
    );
}

#[test]
fn an_old_haproxy_gets_a_larger_pool_by_reload() {
    let want = intent(&[(7, Serve), (8, Serve)]);
    let running = running(&[(1, now(7, Ready, 2))]);
    let vouched = BTreeSet::new();
    let worker = Worker {
        running: Some(&running),
        version: Version::parse("2.4.29"),
        vouched: &vouched,
        over: &NONE,
    };
    let decision = decide(
        &want,
        &slots(&[(1, held(7, true))]),
        worker,
        &Settings::default(),
    );
    assert_eq!(wire(&decision), Vec::<String>::new());
    let reasons: Vec<&str> = decision.reload.values().copied().collect();
    assert_eq!(reasons, ["needs a larger pool"]);
    let reloaded = for_reload(&decision.slots, &Settings::default());
    assert_eq!(reloaded.backends[BACKEND].len(), 8);
    assert_eq!(reloaded.backends[BACKEND][&2], held(8, false));
}

/// What becomes of a second replica where the pool is full.
fn second_replica(balance: Balance, version: &str) -> (usize, Vec<&'static str>) {
    let mut want = intent(&[(7, Serve), (8, Serve)]);
    for backend in want.backends.values_mut() {
        backend.route.balance = balance;
    }
    let running = running(&[(1, now(7, Ready, 2))]);
    let worker = Worker {
        running: Some(&running),
        version: Version::parse(version),
        vouched: &BTreeSet::new(),
        over: &NONE,
    };
    let pools = slots(&[(1, held(7, true))]);
    let decision = decide(&want, &pools, worker, &Settings::default());
    (
        decision.steps.len(),
        decision.reload.values().copied().collect(),
    )
}

#[test]
fn a_pool_grows_as_the_release_and_the_balance_allow() {
    let (at_run_time, by_reload) = ((3, vec![]), (0, vec!["needs a larger pool"]));
    for version in ["2.6.12-1+deb12u4", "3.0.11", "3.2.26"] {
        let grown = second_replica(Balance::Leastconn, version);
        assert_eq!(grown, at_run_time, "{version}");
    }
    for balance in [Balance::Hash, Balance::Source] {
        assert_eq!(second_replica(balance, "2.6.12-1+deb12u4"), by_reload);
        assert_eq!(second_replica(balance, "3.0.11"), by_reload);
        assert_eq!(second_replica(balance, "3.2.26"), at_run_time);
    }
    assert_eq!(second_replica(Balance::Roundrobin, "2.4.29"), by_reload);
    assert_eq!(second_replica(Balance::Roundrobin, "home-made"), by_reload);
}

#[test]
fn a_larger_pool_is_asked_for_until_it_is_loaded() {
    let want = intent(&[(7, Serve), (8, Serve)]);
    let pools = slots(&[(1, held(7, true)), (2, held(8, false))]);
    let vouched = BTreeSet::new();
    let loaded = running(&[(1, now(7, Ready, 2))]);
    let worker = Worker {
        running: Some(&loaded),
        version: Version::parse("2.4.29"),
        vouched: &vouched,
        over: &NONE,
    };
    let decision = decide(&want, &pools, worker, &Settings::default());
    let reasons: Vec<&str> = decision.reload.values().copied().collect();
    assert_eq!(reasons, ["needs a larger pool"]);
}

#[test]
fn servers_come_in_before_others_go_out() {
    let decision = look(
        &intent(&[(7, Drain), (8, Serve)]),
        &slots(&[(1, held(7, true)), (2, held(8, false))]),
        &running(&[(1, now(7, Ready, 2)), (2, now(8, Draining, 2))]),
    );
    assert_eq!(
        wire(&decision),
        [
            "set server be_shop_web_80/slot2 state ready",
            "set maxconn server be_shop_web_80/slot2 9",
            "set server be_shop_web_80/slot1 state drain",
        ]
    );
}

#[test]
fn a_lost_map_is_built_again_from_what_runs() {
    let want = intent(&[(7, Serve), (8, Drain)]);
    let runs = running(&[
        (1, now(7, Ready, 2)),
        (2, now(8, Draining, 2)),
        (3, now(9, Ready, 2)),
        (4, now(0, Maint, 0)),
    ]);
    let decision = look(&want, &SlotMap::default(), &runs);
    assert_eq!(
        decision.slots,
        slots(&[
            (1, held(7, true)),
            (2, held(8, false)),
            (3, Holder::Leaving),
            (4, Holder::Free)
        ])
    );
    assert_eq!(
        wire(&decision),
        [
            "set server be_shop_web_80/slot3 state maint",
            "set server be_shop_web_80/slot3 addr 127.0.0.1 port 1",
        ]
    );
}

#[test]
fn checks_that_were_switched_off_are_switched_on_and_the_server_stays_in() {
    let mut unchecked = now(7, Ready, 2);
    unchecked.check_enabled = false;
    let decision = look(
        &intent(&[(7, Serve)]),
        &slots(&[(1, held(7, true))]),
        &running(&[(1, unchecked)]),
    );
    assert_eq!(wire(&decision), ["enable health be_shop_web_80/slot1"]);
    assert_eq!(
        decision.drift,
        ["be_shop_web_80/slot1 (r7) was not checked"]
    );
    assert_eq!(decision.slots, slots(&[(1, held(7, true))]));
}

#[test]
fn a_weight_comes_before_traffic_and_is_put_right() {
    let mut want = intent(&[(7, Serve), (8, Drain)]);
    let backend = want.backends.values_mut().next().unwrap();
    backend.route.weights = Weights::Load;
    for server in backend.servers.values_mut() {
        server.weight = Some(35);
    }
    let first = look(
        &want,
        &SlotMap::default(),
        &running(&[(1, now(0, Maint, 0))]),
    );
    assert_eq!(
        wire(&first),
        [
            "set server be_shop_web_80/slot1 weight 35",
            "set server be_shop_web_80/slot1 addr 10.0.0.7 port 8000",
            "set server be_shop_web_80/slot1 state drain",
        ]
    );
    // One that drains gets nothing new: its weight is nobody's business.
    let map = slots(&[(1, held(7, true)), (2, held(8, true))]);
    let world = running(&[(1, now(7, Ready, 2)), (2, now(8, Draining, 2))]);
    let later = look(&want, &map, &world);
    assert_eq!(wire(&later), ["set server be_shop_web_80/slot1 weight 35"]);
    assert_eq!(
        later.drift,
        ["be_shop_web_80/slot1 (r7) had another weight"]
    );
    // Random balancing keeps an entry per unit.
    want.backends.values_mut().next().unwrap().route.balance = Balance::Random;
    let coarse = look(&want, &map, &world);
    assert_eq!(wire(&coarse), ["set server be_shop_web_80/slot1 weight 4"]);
}

/// HAProxy as a model: what each command does to a server.
fn play(running: &mut Running, steps: &[Step]) {
    for step in steps {
        let pool = running
            .backends
            .entry(step.backend.to_string())
            .or_default();
        if let Action::AddServer { at, .. } = step.action {
            let mut server = now(0, Maint, 0);
            (server.address, server.port) = (Some(at.ip()), at.port());
            server.check_enabled = false;
            assert!(
                pool.insert(step.slot, server).is_none(),
                "added twice: {step:?}"
            );
            continue;
        }
        let server = pool
            .get_mut(&step.slot)
            .expect("a command for a server that is not there");
        match &step.action {
            Action::AddServer { .. } => {}
            Action::SetAddr { address, port } => {
                assert_eq!(server.admin, Maint, "addressed while in use: {step:?}");
                (server.address, server.port) = (Some(*address), *port);
            }
            Action::Park => {
                assert_eq!(server.admin, Maint, "parked while in use: {step:?}");
                (server.address, server.port) = (Some(PARKED.ip()), PARKED.port());
            }
            Action::EnableHealth => server.check_enabled = true,
            Action::Weight(weight) => server.weight = *weight,
            Action::CheckAtPort => server.check_port = 0,
            Action::CheckAtAddress => server.check_address = None,
            Action::Limit(limit) => server.limit = Some(*limit),
            Action::Expel { .. } => panic!("nobody added one: {step:?}"),
            Action::Drain => {
                if server.admin == Maint {
                    (server.up, server.check_health) = (true, 1);
                }
                server.admin = Draining;
            }
            Action::Maint => server.admin = Maint,
            Action::Ready => {
                assert_ne!(
                    server.address,
                    Some(PARKED.ip()),
                    "nobody made ready: {step:?}"
                );
                assert_eq!(server.check_health, 2, "made ready unproven: {step:?}");
                server.admin = Ready;
            }
            Action::Pull { maxconn } => {
                assert_eq!((server.admin, *maxconn), (Ready, 9), "{step:?}");
            }
        }
    }
}

proptest! {
    /// From any state of HAProxy and of the map, deciding and obeying ends where it should, asks
    /// for nothing more, and never on the way points a server elsewhere while it is in use.
    #[test]
    fn obeying_converges(
        wanted in prop::collection::btree_map(1u64..12, any::<bool>(), 0..8),
        start in prop::collection::btree_map(1u32..10, (0u64..12, 0u8..3, 0u32..3), 0..8),
        map in prop::collection::btree_map(1u32..10, (0u64..14, any::<bool>()), 0..8),
    ) {
        let wanted: Vec<(u64, ServerMode)> =
            wanted.into_iter().map(|(id, serve)| (id, if serve { Serve } else { Drain })).collect();
        let want = intent(&wanted);
        let admin = |n| match n { 0 => Maint, 1 => Draining, _ => Ready };
        let start: Vec<_> = start
            .into_iter()
            .map(|(slot, (id, admin_n, health))| {
                let mut server = now(id, admin(admin_n), health);
                server.weight = slot % 3;
                (slot, server)
            })
            .collect();
        let mut world = running(&start);
        let mut seen = BTreeSet::new();
        let map: Vec<_> = map
            .into_iter()
            .map(|(slot, (id, proven))| match id {
                12 => (slot, Holder::Leaving),
                id if id > 0 && seen.insert(id) => (slot, held(id, proven)),
                _ => (slot, Holder::Free),
            })
            .collect();
        let mut map = slots(&map);
        let mut rounds = 0;
        loop {
            let decision = look(&want, &map, &world);
            map = decision.slots.clone();
            if decision.steps.is_empty() && decision.joining.is_empty() && decision.leaving == 0 {
                break;
            }
            play(&mut world, &decision.steps);
            // All checks pass.
            for server in world.backends.values_mut().flat_map(BTreeMap::values_mut) {
                if server.admin != Maint && server.check_enabled {
                    (server.up, server.check_health) = (true, 2);
                }
            }
            rounds += 1;
            prop_assert!(rounds < 8, "no end: {:?}", wire(&decision));
        }
        let again = look(&want, &map, &world);
        prop_assert_eq!(wire(&again), Vec::<String>::new());
        prop_assert!(again.drift.is_empty(), "{:?}", again.drift);
        let ready = || world.backends[BACKEND].values().filter(|s| s.admin == Ready);
        prop_assert!(ready().all(|server| server.weight == EQUAL));
        let ready: BTreeSet<IpAddr> = ready()
            .filter_map(|s| s.address)
            .collect();
        let serving: BTreeSet<IpAddr> = wanted
            .iter()
            .filter(|(_, mode)| *mode == Serve)
            .map(|(id, _)| address(u8::try_from(*id).unwrap()))
            .collect();
        prop_assert_eq!(ready, serving);
    }
}

#[path = "decide_hand_tests.rs"]
mod hands;
#[path = "decide_queue_tests.rs"]
mod queues;

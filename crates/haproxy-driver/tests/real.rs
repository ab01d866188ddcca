//! The driver against the installed HAProxy. Without HAProxy these tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers are outside of `#[test]`.

mod host;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use host::{Host, Replica, Traffic, free_port, get, get_until, http, key, routes, server, signal};
use longshore_haproxy_driver::EdgeError;
use longshore_haproxy_driver::slots::Holder;
use longshore_model::ReplicaId;
use longshore_model::observe::{CheckState, ServerAdmin};
use longshore_model::routes::ServerMode::{Drain, Serve};
use longshore_model::spec::{Balance, RouteMode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joining_replica_costs_no_request_and_needs_no_reload() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let first = routes(1, vec![http("shop/web", port, vec![a.server(Serve)])]);
    let first = host.edge.apply(&first).await.unwrap();
    assert!(first.reloaded, "{first:?}");
    host.settle().await;
    get_until(port, "x", "r1").await;
    let pid = host.edge.read().await.unwrap().pid;

    let traffic = Traffic::start(port);
    let started = Instant::now();
    let both = vec![http(
        "shop/web",
        port,
        vec![a.server(Serve), b.server(Serve)],
    )];
    let both = routes(2, both);
    let first_answer = async {
        get_until(port, "x", "r2").await;
        started.elapsed()
    };
    let (applied, answer_time) = tokio::join!(host.edge.apply(&both), first_answer);
    let (applied, apply_time) = (applied.unwrap(), started.elapsed());
    assert_eq!(
        host.edge.apply(&both).await.unwrap().steps,
        0,
        "the same routes again"
    );
    assert!(!applied.reloaded && applied.generation == 2, "{applied:?}");
    host.settle().await;
    let ready_time = started.elapsed();
    get_until(port, "x", "r2").await;
    let (answers, slowest) = traffic.stop_without_failure().await;
    println!(
        "first answer {answer_time:?}, apply {apply_time:?}, settled {ready_time:?}, slowest {slowest:?}, {answers:?}"
    );

    let seen = host.edge.read().await.unwrap();
    assert_eq!((seen.pid, seen.routes_generation), (pid, 2));
    let server = seen.servers[&ReplicaId(2)];
    assert_eq!(
        (server.check, server.admin),
        (CheckState::Up, ServerAdmin::Ready)
    );
    assert!(seen.backends[&key("shop/web")].requests_total > 0);
    assert!(seen.problems.is_empty(), "{:?}", seen.problems);
    let line = format!("server slot2 127.0.0.1:{} check\n", b.port);
    assert!(host.config().contains(&line), "{}", host.config());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_replica_finishes_what_it_has_and_its_slot_is_parked_and_used_again() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = |a_mode, b_mode| {
        vec![http(
            "shop/web",
            port,
            vec![a.server(a_mode), b.server(b_mode)],
        )]
    };
    host.edge
        .apply(&routes(1, list(Serve, Serve)))
        .await
        .unwrap();
    host.settle().await;
    // Round robin: of two slow requests each replica gets one.
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    host::slow_arrived(&[&a, &b], 2).await;

    let applied = host
        .edge
        .apply(&routes(2, list(Serve, Drain)))
        .await
        .unwrap();
    assert!(applied.converged && !applied.reloaded, "{applied:?}");
    let before = b.count();
    for _ in 0..20 {
        assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
    }
    assert_eq!(b.count(), before, "a draining replica got a request");
    let seen = host.edge.read().await.unwrap().servers[&ReplicaId(2)];
    assert_eq!((seen.admin, seen.sessions), (ServerAdmin::Drain, 1));

    // Out of the routes before it has finished: maint and parked, but not given away.
    host.edge
        .apply(&routes(
            3,
            vec![http("shop/web", port, vec![a.server(Serve)])],
        ))
        .await
        .unwrap();
    let pool = &host.edge.slots().backends[&format!("be_shop_web_{port}")];
    assert_eq!(pool[&2], Holder::Leaving);
    let c = Replica::start(3).await;
    let with_c = vec![http(
        "shop/web",
        port,
        vec![a.server(Serve), c.server(Serve)],
    )];
    host.edge.apply(&routes(4, with_c)).await.unwrap();
    let pool = host.edge.slots().backends[&format!("be_shop_web_{port}")].clone();
    assert_eq!(pool[&2], Holder::Leaving);
    assert!(pool[&3] != Holder::Free, "{pool:?}");

    a.gate.add_permits(1);
    b.gate.add_permits(1);
    for request in slow {
        assert_eq!(request.await.unwrap().unwrap().0, 200);
    }
    host.settle().await;
    let pool = &host.edge.slots().backends[&format!("be_shop_web_{port}")];
    assert_eq!(pool[&2], Holder::Free);
    assert!(
        host.config()
            .contains("server slot2 127.0.0.1:1 check disabled")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_listen_or_fails_its_check_gets_no_traffic() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let sick = Replica::start(3).await;
    sick.healthy.store(false, Ordering::SeqCst);
    let late_port = free_port();
    let all = vec![http(
        "shop/web",
        port,
        vec![
            a.server(Serve),
            server(2, late_port, Serve),
            sick.server(Serve),
        ],
    )];
    host.edge.apply(&routes(1, all)).await.unwrap();
    let down = |edge: &longshore_haproxy_driver::Edge| {
        edge.slots()
            .backends
            .values()
            .flat_map(|pool| pool.values())
            .any(|h| {
                matches!(
                    h,
                    Holder::Replica {
                        id: ReplicaId(1),
                        proven: true
                    }
                )
            })
    };
    host.tick_until("r1 in", down).await;
    let traffic = Traffic::start(port);
    let deadline = Instant::now() + host::PATIENCE;
    loop {
        host.edge.tick().await.unwrap();
        let seen = host.edge.read().await.unwrap();
        let (late, sick) = (seen.servers[&ReplicaId(2)], seen.servers[&ReplicaId(3)]);
        assert_eq!(
            (late.admin, sick.admin),
            (ServerAdmin::Drain, ServerAdmin::Drain)
        );
        if late.check == CheckState::Down && sick.check == CheckState::Down {
            break;
        }
        assert!(Instant::now() < deadline, "{seen:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sick.count(), 0);
    let late = Replica::start_at(2, late_port).await;
    sick.healthy.store(true, Ordering::SeqCst);
    host.settle().await;
    get_until(port, "x", "r2").await;
    get_until(port, "x", "r3").await;
    let (answers, slowest) = traffic.stop_without_failure().await;
    assert!(
        answers.contains_key("r1") && late.count() > 0,
        "{answers:?}"
    );
    println!("slowest beside two sick replicas {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_drains_and_counts_the_sessions_of_the_old_worker() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let (a, b, c) = (
        Replica::start(1).await,
        Replica::start(2).await,
        Replica::start(3).await,
    );
    let web = |mode| http("shop/web", port, vec![a.server(mode), b.server(Serve)]);
    host.edge.apply(&routes(1, vec![web(Serve)])).await.unwrap();
    host.settle().await;
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    host::slow_arrived(&[&a, &b], 2).await;
    let traffic = Traffic::start(port);
    host.edge.apply(&routes(2, vec![web(Drain)])).await.unwrap();
    let before = a.count();

    let started = Instant::now();
    let new = http("shop/api", other_port, vec![c.server(Serve)]);
    let applied = host
        .edge
        .apply(&routes(3, vec![new, web(Drain)]))
        .await
        .unwrap();
    assert!(applied.reloaded, "{applied:?}");
    println!("apply with reload {:?}", started.elapsed());
    host.settle().await;
    println!("new service ready after {:?}", started.elapsed());
    get_until(other_port, "x", "r3").await;
    let seen = host.edge.read().await.unwrap();
    let draining = seen.servers[&ReplicaId(1)];
    assert_ne!(draining.admin, ServerAdmin::Ready);
    assert_eq!(
        draining.sessions, 1,
        "the old worker's session is not counted"
    );
    a.gate.add_permits(1);
    b.gate.add_permits(1);
    for request in slow {
        assert_eq!(request.await.unwrap().unwrap().0, 200);
    }
    let (answers, _) = traffic.stop_without_failure().await;
    assert!(answers["r2"] > 0, "{answers:?}");
    assert_eq!(a.count(), before, "a draining replica got a request");
    let deadline = Instant::now() + host::PATIENCE;
    while host.edge.read().await.unwrap().servers[&ReplicaId(1)].sessions > 0 {
        assert!(Instant::now() < deadline, "the session does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Back to serving: the drain is lifted without a reload.
    let back = routes(
        4,
        vec![
            http("shop/api", other_port, vec![c.server(Serve)]),
            web(Serve),
        ],
    );
    assert!(!host.edge.apply(&back).await.unwrap().reloaded);
    host.settle().await;
    get_until(port, "x", "r1").await;
    assert_eq!(
        std::fs::read_to_string(&host.settings.state_path).unwrap(),
        "1\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_with_requests_waiting_does_not_take_haproxy_down() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let mut backend = http("shop/web", port, vec![a.server(Serve)]);
    backend.route.maxconn_per_replica = 2;
    host.edge
        .apply(&routes(1, vec![backend.clone()]))
        .await
        .unwrap();
    host.settle().await;
    let waiting: Vec<_> = (0..8)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    let deadline = Instant::now() + host::PATIENCE;
    loop {
        let seen = host.edge.read().await.unwrap().servers[&ReplicaId(1)];
        let backend = host.edge.read().await.unwrap().backends[&key("shop/web")];
        if seen.sessions == 2 && backend.queued + seen.queued >= 6 {
            break;
        }
        assert!(Instant::now() < deadline, "no queue: {seen:?} {backend:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    a.kill();
    backend.servers.clear();
    host.edge
        .apply(&routes(2, vec![backend.clone()]))
        .await
        .unwrap();
    let b = Replica::start(2).await;
    backend.servers = vec![b.server(Serve)];
    host.edge.apply(&routes(3, vec![backend])).await.unwrap();
    b.gate.add_permits(100);
    for request in waiting {
        let _ = request.await.unwrap();
    }
    host.settle().await;
    get_until(port, "x", "r2").await;
    assert!(host.is_running(), "{}", host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_grows_at_run_time_and_survives_a_crash() {
    let mut host = Host::with(|settings| settings.slots_initial = 2).await;
    let port = free_port();
    let mut replicas = vec![Replica::start(1).await];
    let list = |replicas: &[Replica]| {
        vec![http(
            "shop/web",
            port,
            replicas.iter().map(|r| r.server(Serve)).collect(),
        )]
    };
    host.edge.apply(&routes(1, list(&replicas))).await.unwrap();
    host.settle().await;
    let pid = host.edge.read().await.unwrap().pid;
    for id in 2..=7 {
        replicas.push(Replica::start(id).await);
    }
    let traffic = Traffic::start(port);
    let started = Instant::now();
    let applied = host.edge.apply(&routes(2, list(&replicas))).await.unwrap();
    assert!(
        !applied.reloaded && applied.problems.is_empty(),
        "{applied:?}"
    );
    host.settle().await;
    println!(
        "6 more replicas, 5 of them in new slots: ready after {:?}",
        started.elapsed()
    );
    for replica in &replicas {
        get_until(port, "x", &format!("r{}", replica.id)).await;
    }
    traffic.stop_without_failure().await;
    assert_eq!(host.edge.read().await.unwrap().pid, pid);

    host.crash_haproxy().await;
    let error = host.edge.tick().await.unwrap_err();
    assert!(matches!(error, EdgeError::Down { .. }), "{error}");
    host.start_haproxy().await;
    for replica in &replicas {
        get_until(port, "x", &format!("r{}", replica.id)).await;
    }
    let ticked = host.edge.tick().await.unwrap();
    assert!(
        ticked.repaired.iter().any(|t| t.contains("restarted")),
        "{ticked:?}"
    );
    assert_eq!((ticked.steps, ticked.reloaded), (0, false), "{ticked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_that_was_down_starts_with_the_routes_of_now() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = |a_mode, b_mode| {
        vec![http(
            "shop/web",
            port,
            vec![a.server(a_mode), b.server(b_mode)],
        )]
    };
    host.edge
        .apply(&routes(1, list(Serve, Serve)))
        .await
        .unwrap();
    host.settle().await;
    host.crash_haproxy().await;
    let error = host
        .edge
        .apply(&routes(2, list(Drain, Serve)))
        .await
        .unwrap_err();
    assert!(matches!(error, EdgeError::Down { .. }), "{error}");
    assert!(error.to_string().contains("admin.sock"), "{error}");
    host.start_haproxy().await;
    // Before the driver says a word: the draining one is out, the other serves.
    for _ in 0..10 {
        assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r2".to_owned()));
    }
    let applied = host
        .edge
        .apply(&routes(2, list(Drain, Serve)))
        .await
        .unwrap();
    assert_eq!(
        (applied.generation, applied.reloaded),
        (2, false),
        "{applied:?}"
    );
    assert_eq!(a.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_reload_and_a_hand_on_the_socket_are_noticed_and_repaired() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = vec![http(
        "shop/web",
        port,
        vec![a.server(Serve), b.server(Serve)],
    )];
    host.edge.apply(&routes(1, list)).await.unwrap();
    host.settle().await;

    let traffic = Traffic::start(port);
    let before = host.edge.read().await.unwrap().pid;
    signal(host.master_pid(), rustix::process::Signal::USR2);
    let deadline = Instant::now() + host::PATIENCE;
    loop {
        if host.edge.read().await.is_ok_and(|seen| seen.pid != before) {
            break;
        }
        assert!(Instant::now() < deadline, "no new worker\n{}", host.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ticked = host.edge.tick().await.unwrap();
    assert!(ticked.repaired[0].contains("somebody else"), "{ticked:?}");
    assert_eq!((ticked.steps, ticked.pending), (0, 0), "{ticked:?}");

    host.by_hand(&format!("set server be_shop_web_{port}/slot2 state maint"))
        .await;
    let ticked = host.edge.tick().await.unwrap();
    assert_eq!(
        ticked.repaired,
        [format!("be_shop_web_{port}/slot2 (r2) was in maint")]
    );
    host.settle().await;
    host.by_hand(&format!(
        "set server be_shop_web_{port}/slot1 addr 127.0.0.1 port 9"
    ))
    .await;
    host.by_hand(&format!("set server be_shop_web_{port}/slot3 state ready"))
        .await;
    let ticked = host.edge.tick().await.unwrap();
    assert_eq!(
        ticked.repaired,
        [
            format!("be_shop_web_{port}/slot1 (r1) had another address"),
            format!("be_shop_web_{port}/slot3 was in use, but nobody holds it"),
        ]
    );
    host.settle().await;
    let seen = host.edge.read().await.unwrap();
    assert!(
        seen.servers.values().all(|s| s.admin == ServerAdmin::Ready),
        "{seen:?}"
    );
    traffic.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_haproxy_refuses_changes_nothing() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let a = Replica::start(1).await;
    let web = http("shop/web", port, vec![a.server(Serve)]);
    host.edge
        .apply(&routes(1, vec![web.clone()]))
        .await
        .unwrap();
    host.settle().await;
    let good = host.config();
    let pid = host.edge.read().await.unwrap().pid;

    let mut settings = host.settings.clone();
    settings.process.user = Some("no-such-user".to_owned());
    let mut edge = longshore_haproxy_driver::Edge::open(settings)
        .await
        .unwrap();
    let more = vec![web, http("shop/api", other_port, vec![])];
    let error = edge.apply(&routes(2, more)).await.unwrap_err();
    assert!(matches!(error, EdgeError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("no-such-user"), "{error}");
    assert_eq!(host.config(), good);
    let seen = edge.read().await.unwrap();
    assert_eq!((seen.pid, seen.routes_generation), (pid, 0));
    assert!(
        seen.problems[0].contains("no-such-user"),
        "{:?}",
        seen.problems
    );
    assert_eq!(get(port, "/", "x").await.unwrap().0, 200);
    // Not asked again at every tick.
    assert!(edge.tick().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_named_and_does_not_block_the_others() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = vec![
        http("blog/web", port, vec![a.server(Serve)]),
        http("shop/web", other_port, vec![b.server(Serve)]),
    ];
    let applied = host.edge.apply(&routes(1, list)).await.unwrap();
    assert_eq!(applied.problems.len(), 1);
    let named = [port.to_string(), "blog/web".to_owned()];
    assert!(
        named.iter().all(|t| applied.problems[0].contains(t)),
        "{:?}",
        applied.problems
    );
    host.settle().await;
    get_until(other_port, "x", "r2").await;
    drop(holder);
    host.tick_until("the port is free", |edge| edge.slots().backends.len() == 2)
        .await;
    host.settle().await;
    get_until(port, "x", "r1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_fails_leaves_the_old_worker_and_the_old_file() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let a = Replica::start(1).await;
    let web = http("shop/web", port, vec![a.server(Serve)]);
    host.edge
        .apply(&routes(1, vec![web.clone()]))
        .await
        .unwrap();
    host.settle().await;
    let good = host.config();
    // Passes the check and cannot be bound: an address that is not of this host.
    let mut settings = host.settings.clone();
    settings.stats_address = "192.0.2.1".parse().unwrap();
    settings.reload_deadline_ms = 3_000;
    let mut edge = longshore_haproxy_driver::Edge::open(settings)
        .await
        .unwrap();
    let more = vec![web.clone(), http("shop/api", other_port, vec![])];
    let error = edge.apply(&routes(2, more.clone())).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, EdgeError::Reload { .. }), "{error}");
    assert_eq!(host.config(), good);
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
    // With what was wrong repaired, the same routes come through.
    let mut edge = longshore_haproxy_driver::Edge::open(host.settings.clone())
        .await
        .unwrap();
    assert!(edge.apply(&routes(2, more)).await.unwrap().reloaded);
    assert!(
        !edge.tick().await.unwrap().reloaded,
        "a reload that succeeded is still owed"
    );
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_share_a_port_by_host_name_and_the_stats_port_only_reads() {
    let mut host = Host::start().await;
    let (port, tcp_port) = (free_port(), free_port());
    let (a, b, c) = (
        Replica::start(1).await,
        Replica::start(2).await,
        Replica::start(3).await,
    );
    let mut shop = http("shop/web", port, vec![a.server(Serve)]);
    shop.route.domains = vec!["shop.example.org".to_owned()];
    shop.route.balance = Balance::Source;
    let mut blog = http("blog/web", port, vec![b.server(Serve)]);
    blog.route.domains = vec![
        "blog.example.org".to_owned(),
        "www.blog.example.org".to_owned(),
    ];
    blog.route.balance = Balance::Random;
    let mut raw = http("raw/tcp", tcp_port, vec![c.server(Serve)]);
    raw.route.mode = RouteMode::Tcp;
    raw.route.check_path = None;
    raw.route.balance = Balance::Leastconn;
    host.edge
        .apply(&routes(1, vec![blog, raw, shop]))
        .await
        .unwrap();
    host.settle().await;
    get_until(port, "SHOP.example.org:80", "r1").await;
    get_until(port, "www.blog.example.org", "r2").await;
    get_until(tcp_port, "x", "r3").await;
    assert_eq!(get(port, "/", "other.example.org").await.unwrap().0, 404);
    let stats_port = host.settings.stats_port;
    assert_eq!(get(stats_port, "/stats", "x").await.unwrap().0, 200);
    assert!(
        get(stats_port, "/stats;csv", "x")
            .await
            .unwrap()
            .1
            .contains("be_shop_web")
    );
    let metrics = get(stats_port, "/metrics", "x").await.unwrap();
    assert!(
        metrics.1.contains("haproxy_backend_http_requests_total"),
        "{metrics:?}"
    );
    assert_eq!(get(stats_port, "/admin", "x").await.unwrap().0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_socket_is_gone_is_driven_through_its_master() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = routes(1, vec![http("shop/web", port, vec![a.server(Serve)])]);
    host.edge.apply(&list).await.unwrap();
    host.settle().await;
    std::fs::remove_file(&host.settings.admin_socket).unwrap();
    let list = routes(2, vec![http("shop/web", port, vec![b.server(Serve)])]);
    let applied = host.edge.apply(&list).await.unwrap();
    assert!(!applied.reloaded && applied.generation == 2, "{applied:?}");
    assert!(
        applied.problems[0].contains("admin.sock is gone"),
        "{applied:?}"
    );
    host.settle().await;
    for _ in 0..5 {
        assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r2".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_reaches_the_clients_that_an_old_worker_keeps() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = |mode| http("shop/web", port, vec![a.server(mode), b.server(Serve)]);
    host.edge.apply(&routes(1, vec![web(Serve)])).await.unwrap();
    host.settle().await;
    // Six clients that keep their connections to the worker of now.
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = host::Client::connect(port).await;
        client.get("/").await.unwrap();
        clients.push(client);
    }
    let new = http("shop/api", other_port, vec![]);
    assert!(
        host.edge
            .apply(&routes(2, vec![new.clone(), web(Serve)]))
            .await
            .unwrap()
            .reloaded
    );
    assert!(
        !host
            .edge
            .apply(&routes(3, vec![new, web(Drain)]))
            .await
            .unwrap()
            .reloaded
    );
    for client in &mut clients {
        // The old worker may close an idle connection; if it answers, then not from r1.
        if let Some(body) = client.get("/").await {
            assert_eq!(body, "r2");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_hangs_is_an_error_in_time_and_keeps_its_slots() {
    let mut host = Host::with(|settings| settings.socket_deadline_ms = 300).await;
    let port = free_port();
    let a = Replica::start(1).await;
    let list = vec![http("shop/web", port, vec![a.server(Serve)])];
    host.edge.apply(&routes(1, list.clone())).await.unwrap();
    host.settle().await;
    let (slots, file) = (host.edge.slots().clone(), host.config());
    let pid = host.edge.read().await.unwrap().pid;
    signal(pid, rustix::process::Signal::STOP);
    let started = Instant::now();
    let error = host.edge.apply(&routes(2, vec![])).await.unwrap_err();
    let time = started.elapsed();
    signal(pid, rustix::process::Signal::CONT);
    assert!(matches!(error, EdgeError::Silent { .. }), "{error}");
    assert!(time < Duration::from_secs(2), "{time:?}");
    assert_eq!((host.edge.slots(), host.config()), (&slots, file));
    assert!(host.edge.apply(&routes(3, list)).await.unwrap().converged);
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_slot_map_is_built_again_without_a_failed_request() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = routes(
        1,
        vec![http(
            "shop/web",
            port,
            vec![a.server(Serve), b.server(Serve)],
        )],
    );
    host.edge.apply(&list).await.unwrap();
    host.settle().await;
    let slots = host.edge.slots().clone();
    let traffic = Traffic::start(port);
    std::fs::write(&host.settings.slots_path, "{").unwrap();
    host.edge = longshore_haproxy_driver::Edge::open(host.settings.clone())
        .await
        .unwrap();
    assert!(host.edge.apply(&list).await.unwrap().converged);
    host.settle().await;
    assert_eq!(host.edge.slots(), &slots);
    assert!(
        !host.edge.tick().await.unwrap().reloaded,
        "a reload that succeeded is still owed"
    );
    traffic.stop_without_failure().await;
}

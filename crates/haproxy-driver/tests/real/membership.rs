//! Replicas come, drain and go; routes lead where they should.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::host::{
    Host, Replica, Traffic, free_port, get, get_until, http, key, routes, server, slow_arrived,
    until,
};
use longshore_haproxy_driver::name::StatsUri;
use longshore_haproxy_driver::slots::Holder;
use longshore_haproxy_driver::{Edge, EdgeError, StatsPage, Ticked};
use longshore_model::ReplicaId;
use longshore_model::observe::{CheckState, ServerAdmin, ServerObserved};
use longshore_model::routes::ServerMode::{Drain, Serve};
use longshore_model::spec::{Balance, RouteMode};

/// What the edge says of a replica.
async fn server_of(host: &mut Host, replica: u64) -> ServerObserved {
    let snapshot = host.read().await;
    snapshot.server(ReplicaId(replica)).unwrap()
}

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
    let pid = host.read().await.pid;

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

    let seen = host.read().await;
    assert_eq!((seen.pid, seen.routes_generation), (pid, 2));
    let server = seen.server(ReplicaId(2)).unwrap();
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
    host.serve(1, list(Serve, Serve)).await;
    // Round robin: of two slow requests each replica gets one.
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    slow_arrived(&[&a, &b], 2).await;

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
    let seen = server_of(&mut host, 2).await;
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
    let first_in = Holder::Replica {
        id: ReplicaId(1),
        proven: true,
    };
    let in_use = |edge: &Edge, _: &Ticked| {
        let mut pools = edge.slots().backends.values();
        pools.any(|pool| pool.values().any(|holder| *holder == first_in))
    };
    host.tick_until("r1 in", in_use).await;
    let traffic = Traffic::start(port);
    until("both are seen down", async || {
        host.edge.tick().await.unwrap();
        let seen = host.read().await;
        let [late, sick] = [2, 3].map(|id| seen.server(ReplicaId(id)).unwrap());
        assert_eq!(
            (late.admin, sick.admin),
            (ServerAdmin::Drain, ServerAdmin::Drain)
        );
        match (late.check, sick.check) {
            (CheckState::Down, CheckState::Down) => Ok(()),
            checks => Err(format!("{checks:?}")),
        }
    })
    .await;
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
    host.serve(1, vec![web(Serve)]).await;
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    slow_arrived(&[&a, &b], 2).await;
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
    let seen = host.read().await;
    let draining = seen.server(ReplicaId(1)).unwrap();
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
    until("the session ends", async || {
        let seen = server_of(&mut host, 1).await;
        match seen.sessions {
            0 => Ok(()),
            _ => Err(format!("{seen:?}")),
        }
    })
    .await;
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
    host.serve(1, list(&replicas)).await;
    let pid = host.read().await.pid;
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
    assert_eq!(host.read().await.pid, pid);

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
async fn services_share_a_port_by_host_name_and_the_stats_ports_only_read() {
    let also = free_port();
    let uri = StatsUri::new("/haproxy?stats").unwrap();
    let page = StatsPage { port: also, uri };
    let mut host = Host::with(|s| s.stats_also = Some(page)).await;
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
    host.serve(1, vec![blog, raw, shop]).await;
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
    let page = get(also, "/haproxy?stats", "x").await.unwrap();
    assert!(page.0 == 200 && page.1.contains("be_shop_web"), "{page:?}");
    let list = get(also, "/haproxy?stats;csv", "x").await.unwrap();
    assert!(list.1.contains("# pxname,svname"), "{list:?}");
    for elsewhere in ["/haproxy", "/", "/metrics", "/alive"] {
        assert_eq!(
            get(also, elsewhere, "x").await.unwrap().0,
            404,
            "{elsewhere}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_reaches_the_clients_that_an_old_worker_keeps() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = |mode| http("shop/web", port, vec![a.server(mode), b.server(Serve)]);
    host.serve(1, vec![web(Serve)]).await;
    // Six clients that keep their connections to the worker of now.
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = crate::host::Client::connect(port).await;
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
async fn a_haproxy_with_no_backend_of_its_own_is_taken_over() {
    let mut host = Host::stopped(|_| {}).await;
    // As a host's first configuration may be: statistics only.
    let stats = host.settings.stats_port;
    let admin = host.settings.admin_socket.display().to_string();
    let foreign = format!(
        "global\n  stats socket {admin} mode 660 level admin\ndefaults\n  mode http\n  timeout \
         connect 1s\n  timeout client 5s\n  timeout server 5s\nfrontend stats\n  bind \
         127.0.0.1:{stats}\n  stats enable\n"
    );
    std::fs::write(&host.settings.config_path, foreign).unwrap();
    host.start_haproxy().await;
    let (port, a) = (free_port(), Replica::start(1).await);
    let list = vec![http("shop/web", port, vec![a.server(Serve)])];
    let applied = host.edge.apply(&routes(1, list)).await.unwrap();
    assert!(applied.reloaded, "{applied:?}");
    host.settle().await;
    get_until(port, "x", "r1").await;
}

/// HAProxy gives a newcomer nothing of what waits for any server, and nothing new either while
/// something waits: under steady overload it would never get a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_what_waits_and_goes_on_when_the_old_one_leaves() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = |servers| {
        let mut backend = http("shop/web", port, servers);
        backend.route.maxconn_per_replica = 1;
        vec![backend]
    };
    host.serve(1, list(vec![a.server(Serve)])).await;
    let asked = (0..4).map(|_| tokio::spawn(async move { get(port, "/slow", "x").await }));
    let asked: Vec<_> = asked.collect();
    slow_arrived(&[&a], 1).await;
    // The first replica never answers from here on.
    let (old, new) = (a.server(Serve), b.server(Serve));
    host.edge
        .apply(&routes(2, list(vec![old, new.clone()])))
        .await
        .unwrap();
    host.settle().await;
    slow_arrived(&[&b], 1).await;
    host.edge
        .apply(&routes(3, list(vec![a.server(Drain), new])))
        .await
        .unwrap();
    b.gate.add_permits(4);
    slow_arrived(&[&b], 3).await;
    a.gate.add_permits(1);
    let mut answers = Vec::new();
    for one in asked {
        answers.push(one.await.unwrap().unwrap());
    }
    answers.sort();
    let of = |name: &str| (200, name.to_owned());
    assert_eq!(answers, [of("r1"), of("r2"), of("r2"), of("r2")]);
}

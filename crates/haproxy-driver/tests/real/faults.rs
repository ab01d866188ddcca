//! Replicas, HAProxy, files and sockets fail; hands meddle.

use std::time::Instant;

use crate::host::{
    Client, Host, Replica, Traffic, free_port, get, get_until, http, key, routes, signal,
    slow_arrived, until,
};
use longshore_haproxy_driver::{Edge, EdgeError, Ticked};
use longshore_model::ReplicaId;
use longshore_model::observe::ServerAdmin;
use longshore_model::routes::ServerMode::{Drain, Serve};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_with_requests_waiting_does_not_take_haproxy_down() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let mut backend = http("shop/web", port, vec![a.server(Serve)]);
    backend.route.maxconn_per_replica = 2;
    host.serve(1, vec![backend.clone()]).await;
    let waiting: Vec<_> = (0..8)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    until("a queue", async || {
        let snapshot = host.read().await;
        let seen = snapshot.server(ReplicaId(1)).unwrap();
        let backend = &snapshot.backends[&key("shop/web")];
        if seen.sessions == 2 && backend.queued + seen.queued >= 6 {
            return Ok(());
        }
        Err(format!("{seen:?} {backend:?}"))
    })
    .await;
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
    host.serve(1, list(Serve, Serve)).await;
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
    host.serve(1, list).await;

    let traffic = Traffic::start(port);
    let before = host.read().await.pid;
    signal(host.master_pid(), Signal::USR2);
    until("a new worker", async || match host.edge.read().await {
        Ok(seen) if seen.pid != before => Ok(()),
        _ => Err(host.log()),
    })
    .await;
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
    let seen = host.read().await;
    assert!(
        seen.servers
            .values()
            .flat_map(|s| s.values())
            .all(|s| s.admin == ServerAdmin::Ready),
        "{seen:?}"
    );
    traffic.stop_without_failure().await;
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
    // It is the service's trouble, not the edge's.
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    let refused = host.edge.refused();
    assert!(
        refused.keys().map(ToString::to_string).eq(["blog/web"]),
        "{refused:?}"
    );
    let why = refused.values().next().unwrap();
    assert!(why.contains(&port.to_string()), "{why}");
    host.settle().await;
    get_until(other_port, "x", "r2").await;
    drop(holder);
    let both = |edge: &Edge, _: &Ticked| edge.slots().backends.len() == 2;
    host.tick_until("the port is free", both).await;
    assert!(host.edge.refused().is_empty());
    host.settle().await;
    get_until(port, "x", "r1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_taken_while_haproxy_is_down_costs_only_its_own_service() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = vec![
        http("blog/web", port, vec![a.server(Serve)]),
        http("shop/web", other_port, vec![b.server(Serve)]),
    ];
    host.serve(1, list).await;
    host.crash_haproxy().await;
    let holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let frontend = format!("frontend fe_{port}\n");
    let error = host.edge.tick().await.unwrap_err();
    assert!(matches!(error, EdgeError::Held { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("blog/web: port {port} is taken"))
    );
    // It may be a HAProxy that starts at this moment.
    assert!(host.config().contains(&frontend), "{}", host.config());
    until("a file without the port", async || {
        let result = host.edge.tick().await;
        let config = host.config();
        match config.contains(&frontend) {
            false => Ok(()),
            true => Err(format!("{result:?}\n{config}")),
        }
    })
    .await;
    host.start_haproxy().await;
    get_until(other_port, "x", "r2").await;
    host.settle().await;
    let refused: Vec<_> = host
        .edge
        .refused()
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(refused, ["blog/web"]);
    drop(holder);
    let both = |edge: &Edge, _: &Ticked| edge.slots().backends.len() == 2;
    host.tick_until("the port is free", both).await;
    host.settle().await;
    get_until(port, "x", "r1").await;
    assert!(host.edge.refused().is_empty());
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
    // The next looks have brought the socket back; where it is lost again, nobody notices.
    assert!(!host.edge.tick().await.unwrap().reloaded);
    let traffic = Traffic::start(port);
    std::fs::remove_file(&host.settings.admin_socket).unwrap();
    let ticked = host.edge.tick().await.unwrap();
    assert!(ticked.reloaded, "{ticked:?}");
    assert!(
        ticked
            .repaired
            .iter()
            .any(|r| r.contains("was lost and is back")),
        "{ticked:?}"
    );
    let ticked = host.edge.tick().await.unwrap();
    assert!(!ticked.reloaded && ticked.repaired.is_empty(), "{ticked:?}");
    assert!(host.by_hand("show info").await.contains("Pid: "));
    let seen = host.read().await;
    assert!(seen.problems.is_empty(), "{:?}", seen.problems);
    assert!(
        host.config().contains("admin.sock mode"),
        "{}",
        host.config()
    );
    traffic.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_hangs_is_replaced_from_the_file() {
    let mut host = Host::with(|settings| settings.socket_deadline_ms = 2_000).await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = vec![http(
        "shop/web",
        port,
        vec![a.server(Serve), b.server(Serve)],
    )];
    host.serve(1, list).await;
    let pid = host.read().await.pid;
    signal(pid, Signal::STOP);
    let started = Instant::now();
    let list = vec![http("shop/web", port, vec![b.server(Serve)])];
    let applied = host.edge.apply(&routes(2, list)).await.unwrap();
    println!("replaced after {:?}", started.elapsed());
    assert!(
        started.elapsed() < crate::host::PATIENCE,
        "{:?}",
        started.elapsed()
    );
    assert!(applied.reloaded && applied.generation == 2, "{applied:?}");
    let seen = host.read().await;
    assert!(seen.pid != pid && seen.problems.is_empty(), "{seen:?}");
    host.settle().await;
    // None of them lands with the one that hung.
    let before = a.count();
    for _ in 0..20 {
        assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r2".to_owned()));
    }
    assert_eq!(a.count(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_master_is_silent_as_well_is_left_alone() {
    let mut host = Host::with(|settings| settings.socket_deadline_ms = 2_000).await;
    let port = free_port();
    let a = Replica::start(1).await;
    let list = vec![http("shop/web", port, vec![a.server(Serve)])];
    host.serve(1, list.clone()).await;
    let (slots, file) = (host.edge.slots().clone(), host.config());
    let pid = host.read().await.pid;
    let both = [host.master_pid(), pid];
    for pid in both {
        signal(pid, Signal::STOP);
    }
    let started = Instant::now();
    let error = host.edge.apply(&routes(2, vec![])).await.unwrap_err();
    let time = started.elapsed();
    for pid in both {
        signal(pid, Signal::CONT);
    }
    assert!(time < crate::host::PATIENCE, "{time:?}");
    assert!(matches!(error, EdgeError::Silent { .. }), "{error}");
    assert_eq!((host.edge.slots(), host.config()), (&slots, file));
    assert!(host.edge.apply(&routes(3, list)).await.unwrap().converged);
    assert_eq!(host.read().await.pid, pid);
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
    host.edge = Edge::open(host.settings.clone()).await.unwrap();
    assert!(host.edge.apply(&list).await.unwrap().converged);
    host.settle().await;
    assert_eq!(host.edge.slots(), &slots);
    assert!(
        !host.edge.tick().await.unwrap().reloaded,
        "a reload that succeeded is still owed"
    );
    traffic.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_worker_that_hangs_is_never_taken_for_idle() {
    // The usual deadline: on a busy host a shorter one takes those for silent that are not.
    let mut host = Host::with(|settings| settings.socket_deadline_ms = 2_000).await;
    let (port, other) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = |mode| http("shop/web", port, vec![a.server(mode)]);
    host.serve(1, vec![web(Serve)]).await;
    let old = host.read().await.pid;
    // It has all the time that this test takes.
    let slow = tokio::spawn(async move { Client::connect(port).await.get("/slow").await });
    slow_arrived(&[&a], 1).await;
    let new = || http("shop/api", other, vec![b.server(Serve)]);
    assert!(host.serve(2, vec![new(), web(Serve)]).await.reloaded);
    host.edge
        .apply(&routes(3, vec![new(), web(Drain)]))
        .await
        .unwrap();
    assert_eq!(host.read().await.server(ReplicaId(1)).unwrap().sessions, 1);

    signal(old, Signal::STOP);
    let seen = host.read().await;
    assert_eq!(
        seen.server(ReplicaId(1)).unwrap().sessions,
        1,
        "{:?}",
        seen.problems
    );
    let silent = format!("old worker {old} is silent");
    assert!(
        seen.problems.iter().any(|p| p.contains(&silent)),
        "{:?}",
        seen.problems
    );
    // An agent that starts now never read it.
    let mut fresh = Edge::open(host.settings.clone()).await.unwrap();
    let error = fresh.read().await.unwrap_err();
    assert!(
        matches!(error, EdgeError::OldWorker { pid } if pid == old),
        "{error}"
    );

    signal(old, Signal::CONT);
    a.gate.add_permits(1);
    assert_eq!(slow.await.unwrap().as_deref(), Some("r1"));
    until("the old worker ends, and its session with it", async || {
        let seen = fresh.read().await.map_err(|e| e.to_string())?;
        match seen.problems.is_empty() {
            true => Ok(()),
            false => Err(format!("{:?}", seen.problems)),
        }
    })
    .await;
}

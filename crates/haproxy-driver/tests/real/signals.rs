//! What the autoscaler is told, under loads whose figures are known.

use std::time::{Duration, Instant};

use longshore_model::observe::BackendObserved;
use longshore_model::routes::ServerMode::Serve;
use longshore_model::spec::RouteMode;

use crate::host::{Host, Replica, free_port, get, http, key, routes, slow_arrived};

async fn seen(host: &mut Host) -> BackendObserved {
    let mut snapshot = host.read().await;
    snapshot.backends.remove(&key("shop/web")).unwrap()
}

/// Reads until it is as wanted, and gives that reading.
async fn until(
    host: &mut Host,
    what: &str,
    wanted: impl Fn(&BackendObserved) -> bool,
) -> BackendObserved {
    crate::host::until(what, async || {
        let now = seen(host).await;
        if wanted(&now) {
            return Ok(now);
        }
        Err(format!("{now:?}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_load_shows_as_sessions_queue_requests_and_response_time() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let mut backend = http("shop/web", port, vec![a.server(Serve), b.server(Serve)]);
    backend.route.maxconn_per_replica = 3;
    host.serve(1, vec![backend]).await;
    let before = seen(&mut host).await;
    assert_eq!(
        (before.sessions, before.queued, before.errors_total),
        (0, 0, 0)
    );

    let waiting: Vec<_> = (0..16)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    slow_arrived(&[&a, &b], 6).await;
    // Two servers work on three each; the other ten wait.
    let busy = until(&mut host, "a queue of ten", |b| b.queued == 10).await;
    assert_eq!(busy.sessions, 16, "the queue included");
    assert_eq!(busy.requests_total - before.requests_total, 16);
    until(&mut host, "a rate", |b| b.rate > 0).await;

    // Those at work have taken so long that it shows in the mean.
    let (began, long) = (Instant::now(), Duration::from_millis(150));
    until(&mut host, "some time later", |_| began.elapsed() >= long).await;
    a.gate.add_permits(16);
    b.gate.add_permits(16);
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().0, 200);
    }
    let idle = until(&mut host, "idle", |b| b.sessions == 0).await;
    assert_eq!(
        (idle.queued, idle.requests_total - before.requests_total),
        (0, 16)
    );
    assert!(
        idle.response_ms >= 30,
        "six of sixteen took 150 ms: {idle:?}"
    );
    assert_eq!(idle.errors_total, 0);
    // The mean is over requests, not over time: it stays when traffic ends, the rate does not.
    let quiet = until(&mut host, "no rate", |b| b.rate == 0).await;
    assert_eq!(quiet.response_ms, idle.response_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_count_once_and_counters_begin_anew_with_a_reload() {
    let mut host = Host::start().await;
    let (port, other) = (free_port(), free_port());
    let a = Replica::start(1).await;
    let web = http("shop/web", port, vec![a.server(Serve)]);
    host.serve(1, vec![web.clone()]).await;
    for _ in 0..5 {
        get(port, "/", "x").await.unwrap();
    }
    a.kill();
    let mut refused = 0;
    while refused < 3 {
        // The first may still be tried on a server that was up a moment ago.
        let (status, _) = get(port, "/", "x").await.unwrap();
        refused += u64::from(status >= 500);
    }
    let after = until(&mut host, "errors", |b| b.errors_total >= 3).await;
    assert_eq!(after.errors_total, refused);
    assert_eq!(after.requests_total, 5 + refused);

    // A new way in is a reload.
    let second = http("shop/api", other, vec![]);
    let applied = host
        .edge
        .apply(&routes(2, vec![web, second]))
        .await
        .unwrap();
    assert!(applied.reloaded);
    let anew = seen(&mut host).await;
    assert_eq!((anew.requests_total, anew.errors_total), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_tcp_counts_connections_and_those_that_found_nobody() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let mut backend = http("shop/web", port, vec![a.server(Serve)]);
    backend.route.mode = RouteMode::Tcp;
    backend.route.check_path = None;
    host.serve(1, vec![backend]).await;
    for _ in 0..4 {
        get(port, "/", "x").await.unwrap();
    }
    let well = seen(&mut host).await;
    assert_eq!((well.requests_total, well.errors_total), (4, 0));
    a.kill();
    let _ = get(port, "/", "x").await;
    let ill = until(&mut host, "an error", |b| b.errors_total > 0).await;
    assert!(ill.requests_total >= 5, "{ill:?}");
    assert_eq!(ill.response_ms, 0, "no answer is timed");
}

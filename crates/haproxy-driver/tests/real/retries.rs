//! What is tried again and what is not (reliability.md B10).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::{
    Host, Replica, free_port, get, http, key, loopback, routes, server, slow_arrived, until,
};
use longshore_model::ReplicaId;
use longshore_model::observe::CheckState;
use longshore_model::routes::ServerMode::Serve;
use longshore_model::spec::RouteMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes its check, takes requests and hangs up on them without an answer.
async fn mute(asked: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind((loopback(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hang_up(stream, Arc::clone(&asked)));
        }
    });
    port
}

async fn hang_up(mut stream: TcpStream, asked: Arc<AtomicUsize>) {
    let mut head = vec![0; 4_096];
    let read = stream.read(&mut head).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    if head.contains(" /healthz ") {
        let _ = stream
            .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    } else if read > 0 {
        asked.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_sent_is_never_sent_again() {
    let mut host = Host::start().await;
    let port = free_port();
    let asked = Arc::new(AtomicUsize::new(0));
    let good = Replica::start(1).await;
    let silent = server(2, mute(Arc::clone(&asked)).await, Serve);
    host.serve(
        1,
        vec![http("shop/web", port, vec![good.server(Serve), silent])],
    )
    .await;
    let before = good.count();
    let (mut answered, mut failed) = (0, 0);
    for _ in 0..20 {
        match get(port, "/", "x").await.unwrap().0 {
            200 => answered += 1,
            status => {
                assert_eq!(status, 502);
                failed += 1;
            }
        }
    }
    assert_eq!((answered, failed), (10, 10), "in turns");
    let sent = (good.count() - before, asked.load(Ordering::SeqCst));
    assert_eq!(sent, (10, 10), "each to one replica, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_refused_goes_to_another_replica() {
    let mut host = Host::with(|settings| settings.check.inter_ms = 60_000).await;
    let port = free_port();
    let replicas = [Replica::start(1).await, Replica::start(2).await];
    let servers = replicas.iter().map(|r| r.server(Serve)).collect();
    host.serve(1, vec![http("shop/web", port, servers)]).await;
    killed(&replicas[1]).await;
    for _ in 0..20 {
        assert_eq!(get(port, "/", "x").await, Ok((200, "r1".to_owned())));
    }
}

/// A host whose checks come too seldom to find anything out: what HAProxy knows, it knows from
/// connections.
async fn unasked() -> Host {
    Host::with(|settings| settings.check.inter_ms = 60_000).await
}

/// What HAProxy thinks of it; right after a reload that cannot be asked at once.
async fn check_of(host: &mut Host, replica: u64) -> CheckState {
    until("HAProxy can be asked", async || {
        match host.edge.read().await {
            Ok(seen) => Ok(seen.server(ReplicaId(replica)).unwrap().check),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

async fn seen_as(host: &mut Host, replica: u64, wanted: CheckState) {
    until(
        &format!("r{replica} is {wanted:?}"),
        async || match check_of(host, replica).await {
            check if check == wanted => Ok(()),
            check => Err(format!("{check:?}\n{}", host.log())),
        },
    )
    .await;
}

/// Kills it, and waits until its port refuses.
async fn killed(replica: &Replica) {
    replica.kill();
    until("its port refuses", async || {
        match TcpStream::connect((loopback(), replica.port)).await {
            Ok(_) => Err("it takes connections".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
}

/// What `show stat` says of a server.
async fn column(host: &Host, server: &str, name: &str) -> String {
    let stat = host.by_hand("show stat").await;
    let mut lines = stat.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let place = names.iter().position(|n| *n == name).unwrap();
    let line = lines.find(|line| line.get(1) == Some(&server));
    line.unwrap_or_else(|| panic!("{stat}"))[place].to_owned()
}

/// How often refused connections stood for a failed check of a server.
async fn by_refusals(host: &Host, server: &str) -> u32 {
    column(host, server, "hanafail").await.parse().unwrap_or(0)
}

/// Until its first check has passed it is asked every 100 ms.
async fn proven(host: &Host, server: &str) {
    until("its check passes", async || {
        let status = column(host, server, "check_status").await;
        let passed = ["L4OK", "L7OK"].contains(&status.as_str());
        passed.then_some(()).ok_or(status)
    })
    .await;
}

async fn all_wait(host: &mut Host) {
    until("40 wait", async || match waiting(host).await {
        40 => Ok(()),
        count => Err(format!("{count} do")),
    })
    .await;
}

async fn waiting(host: &mut Host) -> u32 {
    let seen = host.read().await;
    seen.backends[&key("shop/web")].queued
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_not_used_up_by_replicas_that_refuse() {
    let mut host = unasked().await;
    let port = free_port();
    let mut replicas = Vec::new();
    for id in 1..=5 {
        replicas.push(Replica::start(id).await);
    }
    let servers = replicas.iter().map(|r| r.server(Serve)).collect();
    let mut web = http("shop/web", port, servers);
    web.route.maxconn_per_replica = 2;
    host.serve(1, vec![web]).await;
    let ask = |path, count| -> Vec<_> {
        let asked = (0..count).map(|_| tokio::spawn(get(port, path, "x")));
        asked.collect()
    };
    let slow = ask("/slow", 10);
    slow_arrived(&replicas.iter().collect::<Vec<_>>(), 10).await;
    let queued = ask("/", 40);
    all_wait(&mut host).await;

    // Seats of theirs come free at once, and nobody else has any.
    for dead in &replicas[3..] {
        dead.kill();
    }
    for dead in 4..=5 {
        seen_as(&mut host, dead, CheckState::Down).await;
    }
    // Nobody was answered: one that is between two tries waits again in a moment.
    all_wait(&mut host).await;
    for well in &replicas[..3] {
        well.gate.add_permits(2);
    }
    for request in queued {
        assert_eq!(request.await.unwrap().map(|(status, _)| status), Ok(200));
    }
    let (mut answered, mut cut) = (0, 0);
    for request in slow {
        match request.await.unwrap().unwrap().0 {
            200 => answered += 1,
            status => {
                assert_eq!(status, 502);
                cut += 1;
            }
        }
    }
    assert_eq!((answered, cut), (6, 4), "cut: what was on the dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_gets_past_all_replicas_of_a_dead_host() {
    let mut host = unasked().await;
    let port = free_port();
    let mut replicas = Vec::new();
    for id in 1..=7 {
        replicas.push(Replica::start(id).await);
    }
    let servers = replicas.iter().map(|r| r.server(Serve)).collect();
    host.serve(1, vec![http("shop/web", port, servers)]).await;
    for dead in &replicas[1..] {
        killed(dead).await;
    }
    for _ in 0..20 {
        assert_eq!(get(port, "/", "x").await, Ok((200, "r1".to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_alone_outlasts_all_refusals_of_a_dead_host() {
    let mut host = unasked().await;
    let port = free_port();
    let mut replicas = Vec::new();
    for id in 1..=6 {
        replicas.push(Replica::start(id).await);
    }
    let servers = replicas.iter().map(|r| r.server(Serve)).collect();
    let mut web = http("shop/web", port, servers);
    web.route.maxconn_per_replica = 1;
    host.serve(1, vec![web]).await;
    let slow: Vec<_> = (0..6)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    slow_arrived(&replicas.iter().collect::<Vec<_>>(), 6).await;
    let alone = tokio::spawn(get(port, "/", "x"));
    until("it waits", async || match waiting(&mut host).await {
        1 => Ok(()),
        count => Err(format!("{count} do")),
    })
    .await;
    // Their seats come free at once, and nobody else wants them.
    for dead in &replicas[1..] {
        dead.kill();
    }
    for dead in 2..=6 {
        seen_as(&mut host, dead, CheckState::Down).await;
    }
    replicas[0].gate.add_permits(1);
    assert_eq!(alone.await.unwrap(), Ok((200, "r1".to_owned())));
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_refuses_one_connection_stays() {
    // Proven soon, and then not asked again while this lasts.
    let mut host = Host::with(|settings| settings.check.inter_ms = 3_000).await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = http("shop/web", port, vec![a.server(Serve), b.server(Serve)]);
    host.serve(1, vec![web]).await;
    proven(&host, "slot2").await;
    let at = b.port;
    let mut b = b;
    for _ in 0..10 {
        killed(&b).await;
        // In turns, so half of these are for it.
        assert_eq!(get(port, "/", "x").await, Ok((200, "r1".to_owned())));
        b = Replica::start_at(2, at).await;
        // Whose turn it is after a redispatch differs between releases.
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(get(port, "/", "x").await.unwrap().1);
        }
        let is_asked = answers.iter().any(|answer| answer == "r2");
        assert!(is_asked, "it is asked again at once: {answers:?}");
    }
    assert_eq!(check_of(&mut host, 2).await, CheckState::Up);
    assert_eq!(by_refusals(&host, "slot2").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_went_by_its_refusals_stays_out_over_a_reload_and_comes_back_by_its_check() {
    // After a reload checks begin within one interval.
    let mut host = Host::with(|settings| settings.check.inter_ms = 3_000).await;
    let (port, other) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = http("shop/web", port, vec![a.server(Serve), b.server(Serve)]);
    host.serve(1, vec![web.clone()]).await;
    proven(&host, "slot2").await;
    killed(&b).await;
    for _ in 0..20 {
        assert_eq!(get(port, "/", "x").await, Ok((200, "r1".to_owned())));
    }
    seen_as(&mut host, 2, CheckState::Down).await;
    assert!(by_refusals(&host, "slot2").await > 0);

    // A new way in is a reload.
    let both = routes(2, vec![web, http("shop/api", other, vec![])]);
    assert!(host.edge.apply(&both).await.unwrap().reloaded);
    assert_eq!(check_of(&mut host, 2).await, CheckState::Down);
    let b = Replica::start_at(2, b.port).await;
    seen_as(&mut host, 2, CheckState::Up).await;
    until("it is asked", async || {
        let answer = get(port, "/", "x").await;
        (b.count() > 0).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_count_of_a_server_that_was_added_at_run_time_too() {
    let mut host = Host::with(|settings| {
        settings.check.inter_ms = 3_000;
        settings.slots_initial = 1;
    })
    .await;
    let port = free_port();
    let mut replicas = Vec::new();
    for id in 1..=3 {
        replicas.push(Replica::start(id).await);
    }
    let web = |count: usize| {
        let servers = replicas[..count].iter().map(|r| r.server(Serve)).collect();
        let mut web = http("shop/web", port, servers);
        web.route.mode = RouteMode::Tcp;
        web.route.check_path = None;
        web
    };
    host.serve(1, vec![web(1)]).await;
    assert!(
        !host.config().contains("server slot3 "),
        "{}",
        host.config()
    );
    assert!(!host.serve(2, vec![web(3)]).await.reloaded);
    proven(&host, "slot3").await;
    killed(&replicas[2]).await;
    for _ in 0..30 {
        assert_eq!(get(port, "/", "x").await.unwrap().0, 200);
    }
    seen_as(&mut host, 3, CheckState::Down).await;
    assert!(by_refusals(&host, "slot3").await > 0);
}

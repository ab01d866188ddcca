//! Changes of structure that HAProxy does not take: they cost their own service, and membership
//! goes on.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::host::{Host, Replica, Traffic, free_port, get, get_until, http, routes, until};
use longshore_haproxy_driver::{Edge, Settings};
use longshore_model::routes::Backend;
use longshore_model::routes::ServerMode::{Drain, Serve};

/// In front of `haproxy -c`: refuses files with a check of `/poison`. HAProxy itself takes all that
/// the driver writes, so a refusal must be made. It counts the questions in the file `asked`.
fn picky(settings: &mut Settings, names_the_line: bool) -> PathBuf {
    let dir = settings.config_path.parent().unwrap().to_owned();
    let binary = dir.join("picky");
    let alert = match names_the_line {
        true => {
            r#"echo "[ALERT]    (7) : config : parsing [$3:$line] : 'http-check send' : poison." >&2"#
        }
        false => r#"echo "[ALERT]    (7) : config : Fatal errors found in configuration." >&2"#,
    };
    let script = format!(
        "#!/bin/sh\necho >> {dir}/asked\nline=$(grep -n /poison \"$3\" | head -1 | cut -d: -f1)\n\
         [ -n \"$line\" ] && {{ {alert}; exit 1; }}\nexec haproxy \"$@\"\n",
        dir = dir.display()
    );
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    settings.binary = binary;
    dir.join("asked")
}

fn count(path: &PathBuf) -> usize {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .count()
}

fn refused(edge: &Edge) -> Vec<(String, String)> {
    let refused = edge.refused();
    refused
        .into_iter()
        .map(|(key, why)| (key.to_string(), why))
        .collect()
}

fn poisoned(mut backend: Backend) -> Backend {
    backend.route.check_path = Some("/poison".to_owned());
    backend
}

/// A way in that HAProxy refuses is left out; all else of the same generation is served.
async fn a_refusal_costs_one_service(names_the_line: bool) {
    let mut asked = PathBuf::new();
    let mut host = Host::with(|settings| asked = picky(settings, names_the_line)).await;
    let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    host.serve(1, vec![http("shop/web", ports[0], vec![a.server(Serve)])])
        .await;
    // At rest the file is what is wanted.
    host.settle().await;
    let on_disk = host.settings.config_path.clone();
    let on_disk = || std::fs::read_to_string(&on_disk).unwrap();
    let wanted = |edge: &Edge| edge.wanted_config().unwrap().text();
    assert_eq!(on_disk(), wanted(&host.edge));
    let before = count(&asked);
    let mut list = vec![
        http("shop/web", ports[0], vec![a.server(Drain), b.server(Serve)]),
        poisoned(http("bad/web", ports[1], vec![b.server(Serve)])),
    ];
    for (i, port) in ports[2..].iter().enumerate() {
        list.push(http(&format!("new/w{i}"), *port, vec![b.server(Serve)]));
    }
    let applied = host.edge.apply(&routes(2, list.clone())).await.unwrap();
    let reported = host.read().await.refused;
    assert_eq!(reported, host.edge.refused());
    assert_eq!(reported.len(), 1);
    assert_eq!(
        (applied.generation, applied.reloaded),
        (2, true),
        "{applied:?}"
    );
    host.settle().await;
    for port in ports[2..].iter().chain([&ports[0]]) {
        get_until(*port, "x", "r2").await;
    }
    assert!(!on_disk().contains("/poison") && wanted(&host.edge).contains("/poison"));
    let said = refused(&host.edge);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].0 == "bad/web" && said[0].1.starts_with("HAProxy refuses it: [ALERT]"),
        "{said:?}"
    );
    let questions = count(&asked) - before;
    assert!(questions <= 10, "{questions} questions");
    // At rest nothing is asked again.
    let before = count(&asked);
    for _ in 0..3 {
        host.edge.tick().await.unwrap();
    }
    assert_eq!(count(&asked), before);
    // What is wanted now is well.
    list[1].route.check_path = None;
    let applied = host.edge.apply(&routes(3, list)).await.unwrap();
    assert!(applied.reloaded, "{applied:?}");
    host.settle().await;
    get_until(ports[1], "x", "r2").await;
    assert_eq!(refused(&host.edge), []);
    assert_eq!(on_disk(), wanted(&host.edge));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_haproxy_refuses_costs_only_itself() {
    a_refusal_costs_one_service(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_haproxy_does_not_name_is_found() {
    a_refusal_costs_one_service(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_leaves_the_structure_of_before_with_the_servers_of_now() {
    let mut host = Host::with(|settings| {
        picky(settings, true);
    })
    .await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    host.serve(1, vec![http("shop/web", port, vec![a.server(Serve)])])
        .await;
    let pid = host.read().await.pid;
    let changed = vec![poisoned(http("shop/web", port, vec![b.server(Serve)]))];
    // An agent that starts anew knows what was good as well.
    for _ in 0..2 {
        let applied = host.edge.apply(&routes(2, changed.clone())).await.unwrap();
        assert_eq!(
            (applied.generation, applied.reloaded),
            (2, false),
            "{applied:?}"
        );
        host.settle().await;
        get_until(port, "x", "r2").await;
        let said = refused(&host.edge);
        assert!(
            said[0].1.contains("served as it was before: [ALERT]"),
            "{said:?}"
        );
        assert!(
            host.config().contains(&format!(":{} check\n", b.port)),
            "{}",
            host.config()
        );
        assert!(
            !host.config().contains(&format!(":{} ", a.port)),
            "{}",
            host.config()
        );
        host.edge = Edge::open(host.settings.clone()).await.unwrap();
    }
    assert_eq!(host.read().await.pid, pid);
    host.edge.apply(&routes(2, changed)).await.unwrap();
    // A HAProxy that crashes comes back with it.
    host.crash_haproxy().await;
    host.start_haproxy().await;
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r2".to_owned()));
}

/// A driver whose files pass the check and cannot be bound: an address that is not of this host.
async fn unbindable(host: &Host) -> Edge {
    let mut settings = host.settings.clone();
    settings.stats_address = "192.0.2.1".parse().unwrap();
    settings.reload_deadline_ms = 3_000;
    Edge::open(settings).await.unwrap()
}

async fn comes_through(host: &Host, list: Vec<Backend>) {
    // With what was wrong repaired, the same routes come through.
    let mut edge = Edge::open(host.settings.clone()).await.unwrap();
    assert!(edge.apply(&routes(2, list)).await.unwrap().reloaded);
    assert!(
        !edge.tick().await.unwrap().reloaded,
        "a reload that succeeded is still owed"
    );
    assert_eq!(refused(&edge), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn membership_goes_on_while_a_reload_fails() {
    let mut host = Host::start().await;
    let (port, gone, new) = (free_port(), free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = vec![
        http("shop/web", port, vec![a.server(Serve), b.server(Serve)]),
        http("old/web", gone, vec![a.server(Serve)]),
    ];
    host.serve(1, list).await;
    let pid = host.read().await.pid;
    let mut edge = unbindable(&host).await;
    let (before, started) = (
        host.log().matches("Reloading HAProxy").count(),
        Instant::now(),
    );
    let list = vec![
        http("shop/web", port, vec![b.server(Serve)]),
        http("new/web", new, vec![b.server(Serve)]),
    ];
    let applied = edge.apply(&routes(2, list.clone())).await.unwrap();
    assert_eq!(
        (applied.generation, applied.reloaded),
        (2, false),
        "{applied:?}"
    );
    assert!(
        applied.problems[0].contains("a change of structure waits"),
        "{applied:?}"
    );
    let said = refused(&edge);
    assert!(said.len() == 1 && said[0].0 == "new/web", "{said:?}");
    assert!(
        said[0].1.contains("waits for a reload of HAProxy"),
        "{said:?}"
    );
    // Who was taken out gets nothing, by no way in; who stays is served.
    let served = a.count();
    assert_eq!(get(gone, "/", "x").await.unwrap().0, 503);
    for _ in 0..5 {
        assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r2".to_owned()));
    }
    assert_eq!(a.count(), served);
    let snapshot = edge.read().await.unwrap();
    assert_eq!((snapshot.pid, snapshot.routes_generation), (pid, 2));
    assert_eq!(snapshot.servers.len(), 2, "{snapshot:?}");
    // However often it is asked for: attempts at 0, 1, 3, 7 s.
    let traffic = Traffic::start(port);
    for _ in 0..5 {
        edge.apply(&routes(2, list.clone())).await.unwrap();
    }
    let attempts = host.log().matches("Reloading HAProxy").count() - before;
    let seconds = started.elapsed().as_secs();
    assert!(
        attempts >= 1 && attempts <= 1 + (seconds + 1).ilog2() as usize,
        "{attempts} in {seconds} s"
    );
    // An attempt costs new connections 2 s: see docs/decisions.
    if attempts == 1 {
        traffic.stop_without_failure().await;
    }
    // The file is that of before, with the servers of now.
    assert!(
        !host.config().contains(&format!(":{} ", a.port)),
        "{}",
        host.config()
    );
    host.crash_haproxy().await;
    host.start_haproxy().await;
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r2".to_owned()));
    comes_through(&host, list).await;
    get_until(new, "x", "r2").await;
    assert!(get(gone, "/", "x").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_haproxy_refuses_for_nobodys_fault_changes_nothing() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    host.serve(1, vec![http("shop/web", port, vec![a.server(Serve)])])
        .await;
    let pid = host.read().await.pid;
    let mut settings = host.settings.clone();
    settings.process.user = Some("no-such-user".to_owned());
    let mut edge = Edge::open(settings).await.unwrap();
    let list = vec![
        http("shop/web", port, vec![b.server(Serve)]),
        http("shop/api", other_port, vec![]),
    ];
    let applied = edge.apply(&routes(2, list)).await.unwrap();
    assert_eq!(
        (applied.generation, applied.reloaded),
        (2, false),
        "{applied:?}"
    );
    assert!(applied.problems[0].contains("no-such-user"), "{applied:?}");
    until("r2 is let in", async || {
        let ticked = edge.tick().await.unwrap();
        match ticked.pending {
            0 => Ok(()),
            _ => Err(format!("{ticked:?}")),
        }
    })
    .await;
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r2".to_owned()));
    let seen = edge.read().await.unwrap();
    assert_eq!((seen.pid, seen.routes_generation), (pid, 2));
    assert!(
        seen.problems[0].contains("no-such-user"),
        "{:?}",
        seen.problems
    );
    assert!(!host.config().contains("no-such-user"), "{}", host.config());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_new_services_are_two_reloads() {
    let mut host = Host::with(|settings| settings.reload_spacing_ms = 1_000).await;
    let a = Replica::start(1).await;
    let ports: Vec<u16> = (0..10).map(|_| free_port()).collect();
    let (mut list, mut reloads) = (Vec::new(), 0);
    for (i, port) in (1..).zip(&ports) {
        list.push(http(&format!("s{i}/web"), *port, vec![a.server(Serve)]));
        let applied = host.edge.apply(&routes(i, list.clone())).await.unwrap();
        assert_eq!(applied.generation, i, "{applied:?}");
        reloads += usize::from(applied.reloaded);
        assert!(host.edge.refused().is_empty(), "{:?}", host.edge.refused());
    }
    assert_eq!(reloads, 1);
    until("all are loaded", async || {
        let ticked = host.edge.tick().await.unwrap();
        reloads += usize::from(ticked.reloaded);
        match ticked.pending {
            0 => Ok(()),
            _ => Err(format!("{ticked:?}")),
        }
    })
    .await;
    assert_eq!(reloads, 2);
    for port in ports {
        get_until(port, "x", "r1").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_in_that_is_removed_is_acknowledged_when_nobody_gets_there() {
    let mut host = Host::with(|settings| settings.reload_spacing_ms = 1_000).await;
    let (port, next) = (free_port(), free_port());
    let a = Replica::start(1).await;
    // The same service elsewhere: its replicas stay.
    let old = http("shop/web", port, vec![a.server(Serve)]);
    host.serve(1, vec![old.clone()]).await;
    let both = vec![old, http("shop/web", next, vec![a.server(Serve)])];
    host.settle().await;
    host.edge.apply(&routes(2, both.clone())).await.unwrap();
    let applied = host
        .edge
        .apply(&routes(3, both[1..].to_vec()))
        .await
        .unwrap();
    assert!(applied.generation < 3 && !applied.converged, "{applied:?}");
    // No gap either: it serves until the reload.
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
    let done = |_: &Edge, _: &longshore_haproxy_driver::Ticked| true;
    until("acknowledged", async || {
        host.tick_until("a tick", done).await;
        match host.read().await.routes_generation {
            3 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert!(get(port, "/", "x").await.is_err());
    get_until(next, "x", "r1").await;
}

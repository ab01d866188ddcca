//! What a way in may ask for beyond its port, against HAProxy itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::host::{
    Host, Replica, free_port, get, get_until, http, loopback, routes, server, until,
};
use longshore_model::ReplicaId;
use longshore_model::observe::{CheckState, ServerAdmin};
use longshore_model::route::{Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec};
use longshore_model::routes::Backend;
use longshore_model::routes::ServerMode::{Drain, Serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A way in with more than the usual.
fn way(mut backend: Backend, change: impl FnOnce(&mut RouteSpec)) -> Backend {
    change(&mut backend.route);
    backend
}

/// Bytes up to the end of a request's head; none where the connection ended.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Answers each request with what it received. `greeted`: refuses who does not begin with the
/// PROXY protocol.
async fn echo(greeted: bool) -> u16 {
    let listener = TcpListener::bind((loopback(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Some(head) = head(&mut stream).await else {
                    return;
                };
                if greeted != head.starts_with("PROXY TCP4 ") {
                    return;
                }
                let length = head.len();
                let text = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{head}"
                );
                let _ = stream.write_all(text.as_bytes()).await;
            });
        }
    });
    port
}

/// What is answered to these bytes, to the end of the connection.
async fn send(port: u16, text: &str) -> String {
    let at = SocketAddr::new(loopback(), port);
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_share_a_port_by_host_and_path() {
    let mut host = Host::start().await;
    let port = free_port();
    let replicas = [
        Replica::start(1).await,
        Replica::start(2).await,
        Replica::start(3).await,
    ];
    let [all, api, named] = &replicas;
    let backends = vec![
        http("shop/all", port, vec![all.server(Serve)]),
        way(http("shop/api", port, vec![api.server(Serve)]), |r| {
            r.path = Some("/api".into());
        }),
        way(http("shop/named", port, vec![named.server(Serve)]), |r| {
            r.domains = vec!["n.example".into()];
        }),
    ];
    host.serve(1, backends).await;
    get_until(port, "x", "r1").await;
    for (name, path, wanted) in [
        ("x", "/", "r1"),
        ("x", "/api", "r2"),
        ("x", "/api/v1?x=/", "r2"),
        ("x", "/apis", "r1"),
        ("N.example:80", "/", "r3"),
        ("n.example", "/api", "r3"),
    ] {
        let answer = get(port, path, name).await.unwrap();
        assert_eq!(answer, (200, wanted.to_owned()), "{name}{path}");
    }
}

/// One request with this cookie: body, and the cookie that was set.
async fn with_cookie(port: u16, cookie: Option<&str>) -> (String, Option<String>) {
    let cookie = cookie.map_or(String::new(), |c| format!("Cookie: SHOP={c}\r\n"));
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{cookie}\r\n");
    let answer = send(port, &text).await;
    let set = answer.lines().find_map(|l| {
        l.to_ascii_lowercase()
            .starts_with("set-cookie: shop=")
            .then(|| {
                let value = l.split_once('=').map_or("", |(_, rest)| rest);
                value.split(';').next().unwrap_or("").to_owned()
            })
    });
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (body.to_owned(), set)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_keeps_its_replica_until_that_one_leaves() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let both = |first| {
        let servers = vec![a.server(first), b.server(Serve)];
        let backend = http("shop/web", port, servers);
        vec![way(backend, |r| r.sticky_cookie = Some("SHOP".into()))]
    };
    host.serve(1, both(Serve)).await;
    get_until(port, "x", "r2").await;
    let mut mine = (String::new(), None);
    while mine.0 != "r1" {
        mine = with_cookie(port, None).await;
    }
    let cookie = mine.1.expect("a first answer sets the cookie");
    for _ in 0..6 {
        assert_eq!(with_cookie(port, Some(&cookie)).await, ("r1".into(), None));
    }
    host.edge.apply(&routes(2, both(Drain))).await.unwrap();
    let (body, moved) = with_cookie(port, Some(&cookie)).await;
    assert_eq!(body, "r2", "nothing new comes to one that leaves");
    assert!(moved.is_some_and(|moved| moved != cookie));
    let seen = host.read().await;
    let seen = seen.server(ReplicaId(1)).unwrap();
    assert_eq!((seen.sessions, seen.admin), (0, ServerAdmin::Maint));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_leads_to_a_replica_that_came_into_a_full_pool() {
    let mut host = Host::with(|s| s.slots_initial = 2).await;
    let port = free_port();
    let mut replicas = Vec::new();
    for id in 1..=3 {
        replicas.push(Replica::start(id).await);
    }
    let list = |count: usize| {
        let servers = replicas.iter().take(count).map(|r| r.server(Serve));
        let backend = http("shop/web", port, servers.collect());
        vec![way(backend, |r| r.sticky_cookie = Some("SHOP".into()))]
    };
    host.serve(1, list(1)).await;
    let grown = host.serve(2, list(3)).await;
    assert!(!grown.reloaded, "{grown:?}");
    let mut cookies = BTreeMap::new();
    until("each replica gives its cookie", async || {
        let (body, cookie) = with_cookie(port, None).await;
        cookies.extend(cookie.map(|cookie| (body, cookie)));
        match cookies.len() {
            3 => Ok(()),
            _ => Err(format!("{cookies:?}")),
        }
    })
    .await;
    for (replica, cookie) in cookies {
        for _ in 0..4 {
            let kept = with_cookie(port, Some(&cookie)).await;
            assert_eq!(kept, (replica.clone(), None));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_start_is_up_and_no_drift() {
    let mut host = Host::start().await;
    let port = free_port();
    let replicas = [Replica::start(1).await, Replica::start(2).await];
    let backend = |count: usize| {
        let servers = replicas.iter().take(count).map(|r| r.server(Serve));
        let backend = http("shop/web", port, servers.collect());
        vec![way(backend, |r| {
            r.slowstart_ms = 60_000;
            r.balance = Balance::Leastconn;
        })]
    };
    host.serve(1, backend(1)).await;
    host.serve(2, backend(2)).await;
    let seen = host.read().await;
    let second = seen.server(ReplicaId(2)).unwrap();
    assert_eq!(
        (second.check, second.admin),
        (CheckState::Up, ServerAdmin::Ready)
    );
    let states = host.by_hand("show servers state").await;
    let row = states.lines().find(|l| l.contains(" slot2 ")).unwrap();
    assert_eq!(
        row.split(' ').nth(5),
        Some("1"),
        "not in its slow start: {row}"
    );
    let again = host.edge.tick().await.unwrap();
    assert_eq!((again.steps, again.repaired.len()), (0, 0), "{again:?}");
    get_until(port, "x", "r2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_is_told_and_cannot_be_made_up() {
    let mut host = Host::start().await;
    let (port, proxied) = (free_port(), free_port());
    let plain = echo(false).await;
    let greeted = echo(true).await;
    let to = |id, port| vec![server(id, port, Serve)];
    let backends = vec![
        http("shop/web", port, to(1, plain)),
        way(http("shop/proxied", proxied, to(2, greeted)), |r| {
            r.accept_proxy = true;
            r.proxy_protocol = Some(ProxyProtocol::V1);
        }),
    ];
    host.serve(1, backends).await;
    let text = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nConnection: close\r\n\r\n";
    let answer = send(port, text).await.to_ascii_lowercase();
    for wanted in [
        "x-forwarded-for: 127.0.0.1\r\n".to_owned(),
        "x-forwarded-proto: http\r\n".to_owned(),
        "x-forwarded-host: shop.example\r\n".to_owned(),
        format!("x-forwarded-port: {port}\r\n"),
    ] {
        assert!(answer.contains(&wanted), "{wanted}{answer}");
    }
    assert!(
        !answer.contains("evil") && !answer.contains("https"),
        "{answer}"
    );
    let text = format!("PROXY TCP4 192.0.2.7 192.0.2.1 4000 443\r\n{text}");
    let answer = send(proxied, &text).await;
    let greeting = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    assert!(greeting.starts_with("PROXY TCP4 192.0.2.7 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_grows_speaks_as_the_one_of_the_file_does() {
    let mut host = Host::with(|s| s.slots_initial = 1).await;
    let port = free_port();
    let greeted = [echo(true).await, echo(true).await, echo(true).await];
    let backend = |count: usize| {
        let servers = (1..).zip(greeted).take(count);
        let servers = servers.map(|(id, port)| server(id, port, Serve)).collect();
        vec![way(http("shop/web", port, servers), |r| {
            r.proxy_protocol = Some(ProxyProtocol::V1);
            r.slowstart_ms = 10;
            r.check = CheckTimes {
                interval_ms: 100,
                rise: 2,
                fall: 3,
                timeout_ms: 500,
            };
        })]
    };
    host.serve(1, backend(1)).await;
    let grown = host.serve(2, backend(3)).await;
    assert!(!grown.reloaded, "{grown:?}");
    let seen = host.read().await;
    for id in 1..=3 {
        let seen = seen.server(ReplicaId(id)).unwrap();
        assert_eq!(
            (seen.check, seen.admin),
            (CheckState::Up, ServerAdmin::Ready),
            "r{id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_goes_to_the_same_replica() {
    let mut host = Host::start().await;
    let port = free_port();
    let replicas = [Replica::start(1).await, Replica::start(2).await];
    let servers = replicas.iter().map(|r| r.server(Serve)).collect();
    let backend = way(http("shop/web", port, servers), |r| {
        r.balance = Balance::Hash;
        r.hash_header = Some("X-Tenant".into());
    });
    host.serve(1, vec![backend]).await;
    let mut seen = BTreeSet::new();
    for tenant in 0..12 {
        let ask = async || {
            let text = format!(
                "GET / HTTP/1.1\r\nHost: x\r\nX-Tenant: t{tenant}\r\nConnection: close\r\n\r\n"
            );
            let answer = send(port, &text).await;
            answer
                .split_once("\r\n\r\n")
                .map(|(_, body)| body.to_owned())
        };
        let first = ask().await;
        for _ in 0..3 {
            assert_eq!(ask().await, first, "tenant {tenant}");
        }
        seen.extend(first);
    }
    assert_eq!(seen.len(), 2, "all tenants are with one replica");
}

/// Who answers each of many keys.
async fn shares(port: u16) -> BTreeMap<String, String> {
    let mut shares = BTreeMap::new();
    for key in 0..60 {
        let path = format!("/key{key}");
        let (status, body) = get(port, &path, "x").await.unwrap();
        assert_eq!(status, 200, "{path}");
        shares.insert(path, body);
    }
    shares
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_shared_by_all_of_a_pool_that_grew_and_stay_through_a_reload() {
    let mut host = Host::with(|s| s.slots_initial = 1).await;
    let port = free_port();
    let mut replicas = Vec::new();
    for id in 1..=6 {
        replicas.push(Replica::start(id).await);
    }
    let backend = |count: usize| {
        let servers = replicas.iter().take(count).map(|r| r.server(Serve));
        way(http("shop/web", port, servers.collect()), |r| {
            r.balance = Balance::Hash;
        })
    };
    host.serve(1, vec![backend(2)]).await;
    host.serve(2, vec![backend(6)]).await;
    let grown = shares(port).await;
    let answered: BTreeSet<&String> = grown.values().collect();
    assert_eq!(answered.len(), 6, "{answered:?}");
    // Another way in is a reload.
    let other = http("shop/other", free_port(), vec![]);
    let applied = host.serve(3, vec![backend(6), other]).await;
    assert!(applied.reloaded);
    assert_eq!(shares(port).await, grown);
}

/// A replica that speaks nothing but HTTP/2: another HAProxy, ended with the test.
struct Http2(Child);

impl Http2 {
    fn start(home: &std::path::Path, port: u16) -> Self {
        let file = home.join("http2.cfg");
        let text = format!(
            "defaults\n    mode http\n    timeout client 9s\nfrontend h2\n    bind 127.0.0.1:{port} proto h2\n    \
             http-request return status 200 content-type text/plain string \"r7\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_may_speak_http_2_only() {
    let mut host = Host::start().await;
    let (port, inner) = (free_port(), free_port());
    let home = tempfile::tempdir().unwrap();
    let _replica = Http2::start(home.path(), inner);
    let backend = way(http("shop/rpc", port, vec![server(7, inner, Serve)]), |r| {
        r.http2 = true;
    });
    host.serve(1, vec![backend]).await;
    get_until(port, "x", "r7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_tcp_connections_last_through_a_drain() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let both = |first| {
        let backend = http("shop/db", port, vec![a.server(first), b.server(Serve)]);
        vec![way(backend, |r| {
            r.mode = RouteMode::Tcp;
            r.timeouts.server_ms = 120_000;
        })]
    };
    host.serve(1, both(Serve)).await;
    let mut mine = crate::host::Client::connect(port).await;
    while mine.get("/").await.as_deref() != Some("r1") {
        mine = crate::host::Client::connect(port).await;
    }
    host.edge.apply(&routes(2, both(Drain))).await.unwrap();
    assert_eq!(mine.get("/").await.as_deref(), Some("r1"));
    for _ in 0..4 {
        assert_eq!(get(port, "/", "x").await.unwrap().1, "r2");
    }
    until("the connection is seen", async || {
        let seen = host.read().await;
        match seen.server(ReplicaId(1)).unwrap().sessions {
            1 => Ok(()),
            other => Err(format!("{other} sessions")),
        }
    })
    .await;
}

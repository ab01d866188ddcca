//! A hand on the socket changes what no list names: it is put back, and said.

use std::collections::BTreeSet;

use crate::host::{
    Host, Replica, Traffic, free_port, get, get_until, http, loopback, routes, signal, until,
};
use longshore_haproxy_driver::{Edge, Repaired, Ticked};
use longshore_model::ReplicaId;
use longshore_model::observe::CheckState;
use longshore_model::repair::Repair;
use longshore_model::repair::RepairKind::{Back, Changed, File, Restarted, Socket};
use longshore_model::routes::ServerMode::{Drain, Serve};
use rustix::process::Signal;

impl Host {
    /// A hand's commands and what the next call says of them; a second one finds nothing.
    async fn meddle(&mut self, commands: &[&str]) -> Ticked {
        for command in commands {
            let answer = self.by_hand(command).await;
            assert!(!answer.contains("nknown"), "{command}: {answer}");
        }
        let ticked = self.edge.tick().await.unwrap();
        let again = self.edge.tick().await.unwrap();
        assert!(again.repaired.is_empty(), "{again:?}");
        let problems = self.edge.report().await.unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        ticked
    }

    /// Looks until HAProxy was reloaded, and what was said until then.
    async fn reloaded(&mut self, what: &str) -> Vec<Repaired> {
        let mut said = Vec::new();
        until(what, async || {
            let ticked = self.edge.tick().await.unwrap();
            said.extend(ticked.repaired.clone());
            match ticked.reloaded {
                true => Ok(()),
                false => Err(format!("{ticked:?}")),
            }
        })
        .await;
        said
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_asks_elsewhere_and_a_limit_of_a_server_are_put_back() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let mut web = http("shop/web", port, vec![a.server(Serve)]);
    web.route.maxconn_per_replica = 9;
    host.serve(1, vec![web.clone()]).await;
    let pool = format!("be_shop_web_{port}");
    let traffic = Traffic::start(port);
    let (own, limit) = (
        format!("set server {pool}/slot1 check-port {}", a.port + 1),
        format!("set maxconn server {pool}/slot1 1"),
    );
    let free = format!("set server {pool}/slot2 check-port {}", a.port);
    let ticked = host.meddle(&[&own, &free, &limit]).await;
    let said = [
        format!("{pool}/slot1 (r1) was checked at another port"),
        format!("{pool}/slot1 (r1) had another limit"),
        format!("{pool}/slot2 was checked at another port"),
    ];
    assert_eq!(ticked.repaired, said);
    let stat = host.by_hand(&format!("show stat {pool} 4 -1")).await;
    let line = stat.lines().find(|line| line.contains(",slot1,")).unwrap();
    assert_eq!(line.split(',').nth(6), Some("9"), "{line}");
    // The slot's next holder is checked where it is: one that is ill is not let in.
    b.healthy.store(false, std::sync::atomic::Ordering::SeqCst);
    web.servers.push(b.server(Serve));
    host.edge
        .apply(&routes(2, vec![web.clone()]))
        .await
        .unwrap();
    until("the ill one was asked", async || {
        host.edge.tick().await.unwrap();
        let seen = host.edge.report().await.unwrap();
        match seen.server(ReplicaId(2)).unwrap().check {
            CheckState::Down => Ok(()),
            check => Err(format!("{check:?}")),
        }
    })
    .await;
    assert_eq!(b.count(), 0);
    b.healthy.store(true, std::sync::atomic::Ordering::SeqCst);
    host.settle().await;
    get_until(port, "x", "r2").await;
    traffic.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_a_check_is_put_back_and_stays_so_over_a_reload() {
    let mut host = Host::start().await;
    let (port, other) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = || vec![http("shop/web", port, vec![a.server(Serve)])];
    host.serve(1, list()).await;
    let pool = format!("be_shop_web_{port}");
    // Nobody has that one.
    let command = format!("set server {pool}/slot1 check-addr 127.255.255.254");
    let ticked = host.meddle(&[&command]).await;
    let said = format!("{pool}/slot1 (r1) was checked at another address");
    assert_eq!(ticked.repaired, [said]);
    let mut both = list();
    both.push(http("shop/api", other, vec![b.server(Serve)]));
    assert!(host.serve(2, both).await.reloaded);
    let ticked = host.edge.tick().await.unwrap();
    assert!(ticked.repaired.is_empty(), "{ticked:?}");
    // Its check asks itself: it falls with it.
    a.healthy.store(false, std::sync::atomic::Ordering::SeqCst);
    until("it is found ill", async || {
        let seen = host.read().await;
        match seen.server(ReplicaId(1)).unwrap().check {
            CheckState::Down => Ok(()),
            check => Err(format!("{check:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_that_were_disabled_and_limits_of_the_process_are_put_back() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let list = vec![http("shop/web", port, vec![a.server(Serve)])];
    host.serve(1, list).await;
    let limit = host.settings.connections_max;
    let ticked = host
        .meddle(&[
            &format!("disable frontend fe_{port}"),
            "disable frontend longshore_stats",
            "set maxconn frontend longshore_stats 1",
            "set maxconn global 2",
            "set rate-limit sessions global 1",
            "set rate-limit connections global 1",
            "set rate-limit ssl-sessions global 1",
        ])
        .await;
    let found: BTreeSet<&str> = ticked.repaired.iter().map(|r| &**r).collect();
    let disabled = format!("fe_{port} was disabled");
    let said = [
        &*disabled,
        "longshore_stats was disabled",
        "longshore_stats had another limit",
        "HAProxy had another limit of connections",
        "HAProxy had a limit of connections a second",
        "HAProxy had a limit of sessions a second",
        "HAProxy had a limit of ssl-sessions a second",
    ];
    assert_eq!(found, BTreeSet::from(said));
    assert_eq!((ticked.steps, ticked.reloaded), (7, false), "{ticked:?}");
    let info = host.by_hand("show info").await;
    assert!(info.contains(&format!("\nMaxconn: {limit}\n")), "{info}");
    for _ in 0..5 {
        assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_was_shut_down_is_loaded_anew() {
    let mut host = Host::start().await;
    let (port, other) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = vec![
        http("shop/api", other, vec![b.server(Serve)]),
        http("shop/web", port, vec![a.server(Serve)]),
    ];
    host.serve(1, list).await;
    let traffic = Traffic::start(other);
    host.by_hand(&format!("shutdown frontend fe_{port}")).await;
    let stat = host.by_hand(&format!("show stat fe_{port} 1 -1")).await;
    assert!(stat.contains(",STOP,"), "{stat}");
    let said = host.reloaded("the port is open").await;
    assert_eq!(said, [format!("fe_{port} was shut down")]);
    assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
    host.settle().await;
    let ticked = host.edge.tick().await.unwrap();
    assert!(!ticked.reloaded && ticked.repaired.is_empty(), "{ticked:?}");
    traffic.stop_without_failure().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_a_hand_added_get_no_requests() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = vec![http("shop/web", port, vec![a.server(Serve)])];
    host.serve(1, list).await;
    let pool = format!("be_shop_web_{port}");
    let at = format!("{}:{}", loopback(), b.port);
    let (add, enable) = (
        format!("add server {pool}/mine {at}"),
        format!("set server {pool}/mine state ready"),
    );
    let ticked = host.meddle(&[&add, &enable]).await;
    assert_eq!(
        ticked.repaired,
        [format!("{pool}/mine was added by somebody else")]
    );
    for _ in 0..5 {
        assert_eq!(get(port, "/", "x").await.unwrap(), (200, "r1".to_owned()));
    }
    // A slot without a check would never prove its holder: it comes from the file.
    let slots = host.edge.slots().backends[&pool].len();
    let next = slots + 1;
    host.by_hand(&format!("add server {pool}/slot{next} {at}"))
        .await;
    let said = host.reloaded("it is loaded anew").await;
    let loaded = format!("{pool} has a server without a check that somebody else added");
    assert!(said.iter().any(|said| *said == loaded), "{said:?}");
    let list = vec![http(
        "shop/web",
        port,
        vec![a.server(Drain), b.server(Serve)],
    )];
    host.serve(2, list).await;
    get_until(port, "x", "r2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repairs_are_kept_in_order_with_numbers_until_they_are_told() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let list = || {
        vec![http(
            "shop/web",
            port,
            vec![a.server(Serve), b.server(Serve)],
        )]
    };
    host.serve(1, list()).await;
    let of_change = host.edge.repairs();
    assert!(of_change.is_empty(), "{of_change:?}");
    let maint = |slot| format!("set server be_shop_web_{port}/slot{slot} state maint");
    host.meddle(&[&maint(1), &maint(2)]).await;
    host.settle().await;
    // Nobody's tick sees it restart: the next call is an `apply`.
    let before = host.read().await.pid;
    signal(host.master_pid(), Signal::USR2);
    until("a new worker", async || match host.edge.read().await {
        Ok(seen) if seen.pid != before => Ok(()),
        _ => Err(host.log()),
    })
    .await;
    host.edge.apply(&routes(2, list())).await.unwrap();
    until("the old worker has ended", async || {
        let read = host.edge.read().await;
        read.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
    host.crash_haproxy().await;
    std::fs::write(&host.settings.config_path, "spoilt").unwrap();
    host.edge.tick().await.unwrap_err();
    host.edge.tick().await.unwrap_err();
    host.start_haproxy().await;
    host.edge.apply(&routes(2, list())).await.unwrap();
    host.settle().await;
    std::fs::remove_file(&host.settings.admin_socket).unwrap();
    host.settle().await;

    let repairs = host.edge.repairs();
    let kinds: Vec<_> = repairs
        .iter()
        .map(|(_, r)| (r.kind, r.away_ms.is_some()))
        .collect();
    let expected = [
        (Changed, false),
        (Restarted, false),
        (File, false),
        (Back, true),
        (Socket, false),
    ];
    assert_eq!(kinds, expected, "{repairs:?}");
    assert_eq!(
        repairs[0].1.what,
        format!(
            "be_shop_web_{port}/slot1 (r1) was in maint; be_shop_web_{port}/slot2 (r2) was in maint"
        )
    );
    let rise = |pair: &[(_, Repair)]| pair[0].1.number + 1 == pair[1].1.number;
    assert!(repairs.windows(2).all(rise), "{repairs:?}");
    // A driver that starts anew goes on above them.
    let last = repairs.last().map(|(_, repair)| repair.number);
    host.edge = Edge::open(host.settings.clone()).await.unwrap();
    host.edge.apply(&routes(2, list())).await.unwrap();
    host.settle().await;
    host.meddle(&[&maint(1)]).await;
    let again = host.edge.repairs();
    assert!(
        again.len() == 1 && Some(again[0].1.number) > last,
        "{again:?}"
    );
}
